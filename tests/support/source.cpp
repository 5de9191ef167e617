// What every slot is made of, compiled once for the tests and the examples.

#include "residency/source.hpp"
