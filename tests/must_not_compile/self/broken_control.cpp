// Is refused for something else than its mistake: the control is, too.
// GNU: error
// Clang: error
#error with and without the mistake
