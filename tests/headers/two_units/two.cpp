// The other translation unit.

#include "every_header.hpp"

const boost::system::error_category* category_of_the_other_unit();

const boost::system::error_category* category_of_the_other_unit() { return &residency::error_category(); }
