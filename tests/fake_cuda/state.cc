// Bookkeeping of the fake driver.
#include "tests/fake_cuda/state.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace fake_cuda {

using namespace attn::cuda;

State &state()
{
    // Never destroyed: handles may be, later than this library's own objects.
    static State &instance = *[] {
        auto *made = new State;
        for (int i = 0; i < kMostDevices; ++i) {
            made->primary[i].device = i;
            made->primary[i].is_primary = true;
            made->primary[i].alive = false;
        }
        set_up_devices(made);
        return made;
    }();
    return instance;
}

Thread &this_thread()
{
    thread_local Thread *const mine = [] {
        const std::lock_guard lock(state().mutex);
        state().threads.push_back(std::make_unique<Thread>());
        // Enough for tests that count allocations of an execute.
        state().threads.back()->stack.reserve(16);
        state().threads.back()->launches.reserve(4096);
        return state().threads.back().get();
    }();
    return *mine;
}

Context *current()
{
    const auto &stack = this_thread().stack;
    return stack.empty() ? nullptr : stack.back();
}

void violate(const char *format, ...)
{
    char text[512];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    state().violations.fetch_add(1, std::memory_order_relaxed);
    const std::lock_guard lock(state().mutex);
    state().violation_texts += text;
    state().violation_texts += '\n';
}

void end_context(Context *context)
{
    State &s = state();
    context->alive = false;
    context->modules = 0, context->allocations = 0, context->streams = 0;
    const std::lock_guard lock(s.mutex);
    for (const auto &module : s.modules)
        if (module->context == context) module->alive = false;
    for (const auto &stream : s.streams)
        if (stream->context == context) stream->alive = false;
    for (auto at = s.allocations.begin(); at != s.allocations.end();) {
        if (at->second.context != context) {
            ++at;
            continue;
        }
        free(at->first);
        at = s.allocations.erase(at);
    }
}

int find_entry(const char *name)
{
    for (int i = 0; i < kEntryCount; ++i)
        if (strcmp(kEntries[i].name, name) == 0) return i;
    return -1;
}

CUresult begin(Entry entry)
{
    State &s = state();
    const int i = static_cast<int>(entry);
    s.calls[i].fetch_add(1, std::memory_order_relaxed);
    const bool explains =
        entry == Entry::get_error_name || entry == Entry::get_error_string || entry == Entry::driver_get_version;
    const pid_t process = s.process.load(std::memory_order_relaxed);
    if (process && process != getpid() && !explains) {
        violate("%s in a forked child", kEntries[i].name);
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if (!process && !explains && entry != Entry::init) {
        violate("%s before cuInit", kEntries[i].name);
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if (s.failing.load(std::memory_order_relaxed) == i && s.countdown.fetch_sub(1, std::memory_order_relaxed) == 1) {
        s.has_failed.store(true, std::memory_order_relaxed);
        return static_cast<CUresult>(s.failure.load(std::memory_order_relaxed));
    }
    const bool works_when_broken = explains || entry == Entry::ctx_push || entry == Entry::ctx_pop ||
                                   entry == Entry::exchange_capture_mode || entry == Entry::ctx_get_current;
    const int breakage = s.breakage.load(std::memory_order_relaxed);
    return breakage && !works_when_broken ? static_cast<CUresult>(breakage) : CUDA_SUCCESS;
}

CUresult begin_unsafe(Entry entry)
{
    constexpr CUresult kCaptureUnsupported = static_cast<CUresult>(900); // CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    const CUresult result = begin(entry);
    if (state().captures.load(std::memory_order_relaxed) > 0 && this_thread().mode != CU_STREAM_CAPTURE_MODE_RELAXED) {
        violate("%s while a stream is captured, in a thread that is not relaxed",
                kEntries[static_cast<int>(entry)].name);
        return kCaptureUnsupported;
    }
    return result;
}

} // namespace fake_cuda
