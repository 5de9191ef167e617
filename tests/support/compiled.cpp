// What most tests have in common, compiled once for all of them.

#define RESIDENCY_TESTS_TEMPLATE template

#include "support/compiled.hpp"
