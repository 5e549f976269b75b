// Streams and threads: several at once, the default streams, and the same bits every time.
#include "call.h"
#include "resident.h"

#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace gpu_test {
namespace {

// One call of every kind with its plan and what it gives.
struct Sample {
    std::string name;
    std::unique_ptr<Call> call;
    conformance::PlanPointer plan;
    std::vector<conformance::Bytes> expected;
};

// A context must be current.
std::vector<Sample> make_samples()
{
    std::vector<Sample> samples;
    const OwnStream stream;
    for (const CallKind &kind : call_kinds()) {
        Sample sample{kind.name, kind.make(conformance::session().seed), nullptr, {}};
        sample.plan = sample.call->plan(shared_handle());
        if (!sample.plan) continue; // the test has failed
        Resident resident(sample.plan.get(), sample.call->args());
        EXPECT_EQ(resident.execute(sample.plan.get(), stream.get()), ATTN_OK) << attn_last_error();
        stream.synchronize();
        resident.read(sample.call->args());
        sample.call->check();
        sample.expected = output_bytes(sample.call->args());
        samples.push_back(std::move(sample));
    }
    return samples;
}

// Executes on a stream, whose work is done on return, and compares.
bool gives_expected(Sample &sample, Resident &resident, Stream stream)
{
    sample.call->poison();
    resident.write(sample.call->args());
    if (resident.execute(sample.plan.get(), stream) != ATTN_OK) return false;
    check(driver().stream_synchronize(stream), "cuStreamSynchronize");
    resident.read(sample.call->args());
    return output_bytes(sample.call->args()) == sample.expected;
}

TEST(Streams, RunAfterRunGivesTheSameBits)
{
    constexpr int runs = 20;
    const ContextScope scope;
    const OwnStream stream;
    for (Sample &sample : make_samples()) {
        SCOPED_TRACE(sample.name);
        Resident resident(sample.plan.get(), sample.call->args());
        for (int run = 0; run < runs; ++run) {
            resident.fill_workspace(static_cast<unsigned char>(13 * run)); // its contents mean nothing
            ASSERT_TRUE(gives_expected(sample, resident, stream.get())) << "run " << run << ' ' << attn_last_error();
        }
    }
}

TEST(Streams, DefaultStreams)
{
    const ContextScope scope;
    for (Sample &sample : make_samples())
        for (Stream stream : {Stream{nullptr}, kLegacyStream, kPerThreadStream}) {
            SCOPED_TRACE(sample.name);
            Resident resident(sample.plan.get(), sample.call->args());
            EXPECT_TRUE(gives_expected(sample, resident, stream)) << stream << ' ' << attn_last_error();
        }
}

// Enqueued one after the other without waiting, each with a workspace of its own.
TEST(Streams, SeveralAtOnce)
{
    constexpr int rounds = 10, streams = 6;
    const ContextScope scope;
    for (Sample &sample : make_samples()) {
        SCOPED_TRACE(sample.name);
        std::vector<std::unique_ptr<OwnStream>> own;
        std::vector<std::unique_ptr<Resident>> residents;
        sample.call->poison();
        for (int n = 0; n < streams; ++n) {
            own.push_back(std::make_unique<OwnStream>());
            residents.push_back(std::make_unique<Resident>(sample.plan.get(), sample.call->args()));
        }
        for (int round = 0; round < rounds; ++round)
            for (int n = 0; n < streams; ++n)
                ASSERT_EQ(residents[n]->execute(sample.plan.get(), own[n]->get()), ATTN_OK) << attn_last_error();
        for (int n = 0; n < streams; ++n) {
            own[n]->synchronize();
            sample.call->poison();
            residents[n]->read(sample.call->args());
            EXPECT_EQ(output_bytes(sample.call->args()), sample.expected) << "stream " << n;
        }
    }
}

// The library finds whatever the thread has current: nothing, for those that tests start.
TEST(Streams, ManyThreads)
{
    constexpr int threads = 8, rounds = 20;
    std::vector<Sample> samples;
    {
        const ContextScope scope;
        samples = make_samples();
    }
    for (Sample &sample : samples) {
        SCOPED_TRACE(sample.name);
        const ContextScope scope;
        std::vector<std::unique_ptr<OwnStream>> own;
        std::vector<std::unique_ptr<Resident>> residents;
        sample.call->poison();
        for (int n = 0; n < threads; ++n) {
            own.push_back(std::make_unique<OwnStream>());
            residents.push_back(std::make_unique<Resident>(sample.plan.get(), sample.call->args()));
        }
        std::atomic<int> failures = 0;
        std::vector<std::thread> running;
        for (int n = 0; n < threads; ++n)
            running.emplace_back([&, n] {
                for (int round = 0; round < rounds; ++round)
                    if (residents[n]->execute(sample.plan.get(), own[n]->get()) != ATTN_OK) ++failures;
                Context current = nullptr;
                if (driver().ctx_get_current(&current) != 0 || current != nullptr) ++failures; // left behind
            });
        for (std::thread &thread : running) thread.join();
        EXPECT_EQ(failures, 0);
        for (int n = 0; n < threads; ++n) {
            own[n]->synchronize();
            sample.call->poison();
            residents[n]->read(sample.call->args());
            EXPECT_EQ(output_bytes(sample.call->args()), sample.expected) << "thread " << n;
        }
    }
}

// Threads that plan the same and other descriptors at once, on one handle.
TEST(Streams, ManyThreadsPlan)
{
    constexpr int threads = 8;
    std::atomic<int> failures = 0;
    std::vector<std::thread> running;
    for (int n = 0; n < threads; ++n)
        running.emplace_back([&, n] {
            for (const CallKind &kind : call_kinds()) {
                const auto call = kind.make(conformance::session().seed + static_cast<std::uint64_t>(n % 2));
                const auto plan = call->plan(shared_handle());
                if (!plan) {
                    ++failures;
                    continue;
                }
                const ContextScope scope;
                const OwnStream stream;
                Resident resident(plan.get(), call->args());
                if (resident.execute(plan.get(), stream.get()) != ATTN_OK) ++failures;
                stream.synchronize();
            }
        });
    for (std::thread &thread : running) thread.join();
    EXPECT_EQ(failures, 0) << attn_last_error();
}

} // namespace
} // namespace gpu_test
