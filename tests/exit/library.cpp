// A shared library with a manager of static storage.

#include "exit/managers.hpp"

namespace {

residency::test::Manager manager{residency::test::make_backend(), {}, residency::test::manager_options()};

}  // namespace

residency::test::Manager& residency::test::manager_of_library() { return manager; }
