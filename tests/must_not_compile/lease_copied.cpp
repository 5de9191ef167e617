// A lease is moved, not copied: it counts once.
// GNU: use of deleted function
// GNU: Lease(const residency::Lease<Model>&)
// Clang: call to deleted constructor of 'residency::Lease<Model>'

#include "residency/lease.hpp"

#include <utility>

struct Model {};

void use(residency::Lease<Model> lease);

void hand_on(residency::Lease<Model> lease) {
#if defined(CONTROL)
    use(std::move(lease));
#else
    use(lease);
#endif
}
