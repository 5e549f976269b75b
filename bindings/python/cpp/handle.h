/**
 * @file handle.h
 * @brief Calls into the library without the GIL, and its handle.
 */
#pragma once

#include "tensor.h"

#include <memory>
#include <string>

namespace attn_python {

/** Calls the library without the GIL and raises what it reports; the message is taken before any other call. */
template <class Call>
void check(Call call)
{
    attn_status status;
    std::string message;
    {
        py::gil_scoped_release release;
        status = call();
        if (status != ATTN_OK) message = attn_last_error();
    }
    if (status != ATTN_OK) raise_error(status, message);
}

class Handle {
public:
    Handle(int32_t threads, attn_device device, int32_t device_id)
    {
        attn_options options{};
        options.size = sizeof options;
        options.max_workers = threads;
        options.device = device;
        options.device_id = device_id;
        attn_handle handle = nullptr;
        check([&] { return attn_create(&options, &handle); });
        handle_.reset(handle);
    }

    attn_handle get() const { return handle_.get(); }

private:
    struct Destroy {
        void operator()(attn_handle handle) const { attn_destroy(handle); }
    };
    std::unique_ptr<attn_handle_s, Destroy> handle_;
};

} // namespace attn_python
