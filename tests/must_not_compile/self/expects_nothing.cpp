// Is refused, but it does not say how.
#if !defined(CONTROL)
#error some words
#endif
