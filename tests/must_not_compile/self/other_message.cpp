// Is refused in other words than these.
// GNU: these words
// Clang: these words
#if !defined(CONTROL)
#error other words
#endif
