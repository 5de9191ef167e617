// A number is not by accident a generation.
// GNU: could not convert '3' from 'int' to 'residency::Generation'
// Clang: no viable conversion from returned value of type 'int' to function return type 'residency::Generation'

#include "residency/generation.hpp"

residency::Generation third() {
#if defined(CONTROL)
    return residency::Generation{3};
#else
    return 3;
#endif
}
