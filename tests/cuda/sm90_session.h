// What the tests of plans for Hopper kernels have in common.
#ifndef ATTN_TESTS_CUDA_SM90_SESSION_H
#define ATTN_TESTS_CUDA_SM90_SESSION_H

#include "backends/cuda/cuda_backend.h"
#include "dense.h"
#include "handle.h"
#include "tests/cuda/described.h"
#include "tests/cuda/session.h"
#include "tests/cuda/sweep.h"

#include <memory>
#include <string>
#include <unistd.h>
#include <utility>

namespace attn::cuda::test {

class Sm90Session : public Session {
protected:
    void SetUp() override
    {
        Session::SetUp();
        record_->parameters = 5; // of either kernel
    }

    static std::unique_ptr<attn_handle_s> handle_on(std::unique_ptr<CudaDevice> device, gpu::Selection selection)
    {
        auto handle = std::make_unique<attn_handle_s>();
        handle->device = ATTN_DEVICE_CUDA;
        handle->process = getpid();
        handle->backend = make_backend(std::move(device), selection);
        return handle;
    }
    attn_handle create(gpu::Selection selection = gpu::Selection::standard)
    {
        return handle_on(open({}), selection).release();
    }

    /// Why a kernel does not serve a problem, by its refuse function.
    template <class Refuse>
    std::string refusal_by(Refuse refuse, Described described, int device_id)
    {
        DeviceOptions options;
        options.device_id = device_id;
        const auto device = open(options);
        described.problem.binds = described.binds.data(), described.problem.bind_count = described.binds.size();
        described.dense.problem = &described.problem;
        DenseProblem problem;
        if (read_dense(&described.dense, &problem) != ATTN_OK) return std::string("not read: ") + last_error();
        return refuse(problem, *device);
    }

    /// Opens a device, plans and executes a problem, each driver call failing in turn.
    Sweep fail_every_call_of(Described (*served)(const char *))
    {
        return fail_every_call([this, served](const auto &ending) -> attn_status {
            const Driver *driver = nullptr;
            if (const attn_status status = open_driver(&driver)) return status;
            std::unique_ptr<CudaDevice> device;
            if (const attn_status status = CudaDevice::open(*driver, {}, std::make_unique<FakeStore>(record_), &device))
                return status;
            std::unique_ptr<attn_handle_s> handle = handle_on(std::move(device), gpu::Selection::standard);
            attn_plan plan = nullptr;
            attn_status status = served("served").plan(handle.get(), &plan);
            if (status == ATTN_OK) status = Tensors(plan).execute(plan, nullptr);
            ending();
            attn_destroy(handle.release());
            attn_plan_destroy(plan);
            return status;
        });
    }
};

} // namespace attn::cuda::test

#endif
