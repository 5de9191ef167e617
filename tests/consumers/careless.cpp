// Code that does not compile with residency's own warnings as errors. It is the consumer's right to write it.

#include <residency/ranking.hpp>

int careless(int unused, double number) {
    int narrowed = number;
    {
        int number = narrowed;
        (void)number;
    }
    return narrowed;
}
