#include "tests/cuda/session.h"

#include <cstring>

namespace attn::cuda::test {

attn_status FakeStore::find(const kernel::Request &request, const std::string &arch, bool, kernel::Image *out)
{
    ++record_->finds;
    if (const attn_status status = record_->failure.load())
        return fail(status, "fake store: no %s", request.entry.c_str());
    std::string parameters;
    for (int i = 0; i < record_->parameters; ++i) parameters.append(i ? ",\n" : "").append(".param .u64 p");
    std::string ptx = ".version 8.0\n.target ";
    ptx += arch + "\n.address_size 64\n.visible .entry " + request.entry + "(" + parameters + ")\n{ ret; }\n";
    const auto text = std::make_shared<const std::string>(record_->broken_images ? "nonsense" : std::move(ptx));
    *out = {text, text->c_str(), text->size() + 1, true, kernel::Origin::compiled};
    return ATTN_OK;
}

void Session::SetUp()
{
    fake_cuda_reset();
    ASSERT_EQ(fake_cuda_current(), nullptr);
    ASSERT_EQ(describe_live(), "");
}

void Session::TearDown()
{
    EXPECT_EQ(describe_live(), "");
    EXPECT_EQ(violations(), "");
    fake_cuda_reset();
}

std::unique_ptr<CudaDevice> Session::open(const DeviceOptions &options)
{
    const Driver *driver = nullptr;
    std::unique_ptr<CudaDevice> device;
    if (open_driver(&driver) != ATTN_OK ||
        CudaDevice::open(*driver, options, std::make_unique<FakeStore>(record_), &device) != ATTN_OK)
        ADD_FAILURE() << last_error();
    return device;
}

kernel::Request request_for(const char *entry)
{
    return {"tests/fake.cuh", entry, {"A=1", "B=2"}, ""};
}

std::string describe_live()
{
    const fake_cuda_live live = fake_cuda_count_live();
    const struct {
        const char *name;
        int64_t count;
    } counts[] = {{"modules", live.modules},
                  {"allocations", live.allocations},
                  {"streams", live.streams},
                  {"retained", live.retained},
                  {"pushed", live.pushed}};
    std::string text;
    for (const auto &[name, count] : counts)
        if (count) text += std::to_string(count) + " " + name + "; ";
    return text;
}

std::string violations()
{
    char text[4096];
    return fake_cuda_violations(text, sizeof text) ? text : "";
}

testing::AssertionResult failed_with(attn_status got, attn_status wanted, std::initializer_list<std::string> parts)
{
    if (got != wanted)
        return testing::AssertionFailure() << "status " << got << " instead of " << wanted << ": " << last_error();
    for (const std::string &part : parts)
        if (!strstr(last_error(), part.c_str()))
            return testing::AssertionFailure() << "no \"" << part << "\" in: " << last_error();
    return testing::AssertionSuccess();
}

} // namespace attn::cuda::test
