// What tests call; see fake_cuda.h.
#include "tests/fake_cuda/state.h"

#include <algorithm>
#include <cstring>

using namespace fake_cuda;
using namespace attn::cuda;

void fake_cuda::set_up_devices(State *s)
{
    for (int i = 0; i < kMostDevices; ++i) {
        const bool newer = i % 2 == 0;
        Device &device = s->devices[i];
        device.name = std::string("Fake ") + (newer ? "H" : "A") + " " + std::to_string(i);
        device.bytes = size_t{80} << 30;
        device.attributes = {{CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, newer ? 132 : 108},
                             {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, newer ? 2619000 : 1215000},
                             {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120},
                             {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, (newer ? 50 : 40) << 20},
                             {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, newer ? 9 : 8},
                             {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
                             {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, newer ? 233472 : 167936},
                             {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, newer ? 232448 : 166912}};
    }
}

void fake_cuda_reset()
{
    State &s = state();
    s.version = 13000;
    s.device_count = 2;
    for (auto &hidden : s.hidden) hidden = false;
    s.failing = -1, s.failure = 0, s.breakage = 0, s.has_failed = false, s.was_shut_out = false;
    s.captures = 0, s.violations = 0;
    fake_cuda_clear_calls();
    fake_cuda_clear_launches();
    const std::lock_guard lock(s.mutex);
    set_up_devices(&s);
    s.violation_texts.clear();
}

void fake_cuda_set_version(int version)
{
    state().version = version;
}

void fake_cuda_set_device_count(int count)
{
    state().device_count = std::clamp(count, 0, kMostDevices);
}

void fake_cuda_set_attribute(int device, int attribute, int value)
{
    const std::lock_guard lock(state().mutex);
    state().devices.at(device).attributes[attribute] = value;
}

void fake_cuda_hide(const char *entry)
{
    state().hidden.at(find_entry(entry)) = true;
}

void *fake_cuda_create_context(int device, int units)
{
    auto context = std::make_unique<Context>();
    context->device = device, context->units = units;
    const std::lock_guard lock(state().mutex);
    state().contexts.push_back(std::move(context));
    return state().contexts.back().get();
}

void fake_cuda_destroy_context(void *context)
{
    end_context(static_cast<Context *>(context));
}

void *fake_cuda_primary_context(int device)
{
    Context &context = state().primary.at(device);
    return context.alive ? &context : nullptr;
}

void fake_cuda_push(void *context)
{
    this_thread().stack.push_back(static_cast<Context *>(context));
}

void fake_cuda_pop()
{
    this_thread().stack.pop_back();
}

void *fake_cuda_current()
{
    return current();
}

void *fake_cuda_create_stream(void *context)
{
    auto stream = std::make_unique<Stream>();
    stream->context = static_cast<Context *>(context);
    const std::lock_guard lock(state().mutex);
    state().streams.push_back(std::move(stream));
    return state().streams.back().get();
}

void fake_cuda_destroy_stream(void *stream)
{
    static_cast<Stream *>(stream)->alive = false;
}

void fake_cuda_begin_capture()
{
    ++state().captures;
}

void fake_cuda_end_capture()
{
    --state().captures;
}

int fake_cuda_capture_mode()
{
    return this_thread().mode;
}

void fake_cuda_set_capture_mode(int mode)
{
    this_thread().mode = static_cast<CUstreamCaptureMode>(mode);
}

void fake_cuda_fail(const char *entry, int64_t n, int result)
{
    State &s = state();
    s.has_failed = false, s.launches_after_failure = 0;
    s.failure = result;
    s.countdown = n;
    s.failing = find_entry(entry);
}

void fake_cuda_break(int result)
{
    state().breakage = result;
}

bool fake_cuda_has_failed()
{
    return state().has_failed;
}

int64_t fake_cuda_launches_after_failure()
{
    return state().launches_after_failure;
}

int fake_cuda_entry_count()
{
    return kEntryCount;
}

const char *fake_cuda_entry_name(int i)
{
    return kEntries.at(i).name;
}

int64_t fake_cuda_calls(const char *entry)
{
    return state().calls.at(find_entry(entry));
}

int64_t fake_cuda_all_calls()
{
    int64_t sum = 0;
    for (const auto &calls : state().calls) sum += calls;
    return sum;
}

void fake_cuda_clear_calls()
{
    for (auto &calls : state().calls) calls = 0;
}

fake_cuda_live fake_cuda_count_live()
{
    State &s = state();
    const std::lock_guard lock(s.mutex);
    fake_cuda_live live = {};
    for (const auto &module : s.modules) live.modules += module->alive;
    for (const auto &stream : s.streams) live.streams += stream->of_backend && stream->alive;
    for (const auto &context : s.primary) live.retained += context.retained;
    for (const auto &[address, allocation] : s.allocations) {
        ++live.allocations;
        live.bytes += static_cast<int64_t>(allocation.bytes);
    }
    live.pushed = s.pushed;
    return live;
}

int64_t fake_cuda_launch_count()
{
    State &s = state();
    const std::lock_guard lock(s.mutex);
    int64_t count = 0;
    for (const auto &thread : s.threads) count += static_cast<int64_t>(thread->launches.size());
    return count;
}

bool fake_cuda_get_launch(int64_t i, fake_cuda_launch *out)
{
    State &s = state();
    const std::lock_guard lock(s.mutex);
    for (const auto &thread : s.threads) {
        const auto count = static_cast<int64_t>(thread->launches.size());
        if (i < count) {
            *out = thread->launches[i];
            return true;
        }
        i -= count;
    }
    return false;
}

void fake_cuda_clear_launches()
{
    State &s = state();
    const std::lock_guard lock(s.mutex);
    for (const auto &thread : s.threads) thread->launches.clear();
}

bool fake_cuda_get_tensor_map(int i, fake_cuda_tensor_map *out)
{
    const Thread &thread = this_thread();
    const auto kept = static_cast<int64_t>(thread.maps.size());
    if (i < 0 || i >= std::min(kept, thread.map_count)) return false;
    *out = thread.maps[static_cast<size_t>((thread.map_count - 1 - i) % kept)];
    return true;
}

int64_t fake_cuda_violations(char *text, size_t capacity)
{
    State &s = state();
    const std::lock_guard lock(s.mutex);
    if (capacity) {
        const size_t length = std::min(s.violation_texts.size(), capacity - 1);
        memcpy(text, s.violation_texts.data(), length);
        text[length] = '\0';
    }
    return s.violations;
}
