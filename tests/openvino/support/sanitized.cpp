// Linked into the sanitized programs of this folder. OpenVINO loads its plugins with RTLD_DEEPBIND, at which
// AddressSanitizer ends the process; and it keeps some of what it made.

#include <dlfcn.h>

extern "C" {

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name)
void* dlopen(const char* file, int mode) {
    using Open = void* (*)(const char*, int);
    static const auto next = reinterpret_cast<Open>(dlsym(RTLD_NEXT, "dlopen"));
    return next(file, mode & ~RTLD_DEEPBIND);
}

// NOLINTNEXTLINE(bugprone-reserved-identifier)
const char* __lsan_default_suppressions() { return "leak:libopenvino\n"; }

}  // extern "C"
