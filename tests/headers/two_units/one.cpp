// One of two translation units that include every header. A function in a header that is not inline would be defined
// twice, and the program would not link.

#include "every_header.hpp"

const boost::system::error_category* category_of_the_other_unit();

int main() {
    // There is one error category in the program, or codes made in different units would never be equal.
    return &residency::error_category() == category_of_the_other_unit() ? 0 : 1;
}
