// Is refused, but nobody said how.
#if !defined(CONTROL)
#error some words
#endif
