// Linked to instructions.cpp: lets callgrind count what runs while this thread holds a mutex, and nothing else (with
// --collect-atstart=no). Locking and unlocking themselves are left out.

#include <valgrind/callgrind.h>

#include <dlfcn.h>
#include <pthread.h>

namespace {

using Function = int (*)(pthread_mutex_t*);

Function next(const char* name) { return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name)); }

thread_local int held = 0;

}  // namespace

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) {
    static const Function lock = next("pthread_mutex_lock");
    const int error = lock(mutex);
    if (error == 0 && held++ == 0) {
        CALLGRIND_TOGGLE_COLLECT;
    }
    return error;
}

extern "C" int pthread_mutex_unlock(pthread_mutex_t* mutex) {
    static const Function unlock = next("pthread_mutex_unlock");
    if (--held == 0) {
        CALLGRIND_TOGGLE_COLLECT;
    }
    return unlock(mutex);
}
