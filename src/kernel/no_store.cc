// A store without places to look in: every kernel is refused by name.
#include "kernel/store.h"

namespace attn::kernel {
namespace {

class NoStore final : public Store {
public:
    attn_status find(const Request &request, const std::string &arch, bool, Image *) override
    {
        return fail(ATTN_ERROR_COMPILE, "%s in %s for %s: this build of libattn has no kernels and no compiler",
                    request.entry.c_str(), request.source.c_str(), arch.c_str());
    }
    bool has(const Request &, const std::string &) override { return false; }
    std::string compiler() override { return "none"; }
};

} // namespace

attn_status open_store(const StoreOptions &, std::unique_ptr<Store> *out)
{
    *out = std::make_unique<NoStore>();
    return ATTN_OK;
}

} // namespace attn::kernel
