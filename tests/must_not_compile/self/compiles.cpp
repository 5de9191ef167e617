// Compiles, and so is not refused.
// GNU: error
// Clang: error
int main() {}
