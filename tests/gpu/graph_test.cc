// Calls captured in graphs: that capture succeeds in the strictest mode shows that nothing in them allocates,
// synchronises or reads the device. Graphs follow lengths that change on the device, and take new addresses by update.
#include "call.h"
#include "resident.h"

#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

namespace gpu_test {
namespace {

// A captured graph.
class Captured {
public:
    Captured(const Resident &call, attn_plan plan, const OwnStream &stream)
    {
        check(driver().stream_begin_capture(stream.get(), kCaptureGlobal), "cuStreamBeginCapture");
        EXPECT_EQ(call.execute(plan, stream.get()), ATTN_OK) << attn_last_error();
        check(driver().stream_end_capture(stream.get(), &graph_), "cuStreamEndCapture");
    }
    ~Captured() { driver().graph_destroy(graph_); }
    Captured(const Captured &) = delete;
    Captured &operator=(const Captured &) = delete;

    Graph get() const { return graph_; }
    // Types of the nodes in the driver's order.
    std::vector<int> types() const
    {
        std::vector<int> all;
        for (GraphNode node : nodes()) {
            int type = -1;
            check(driver().graph_node_get_type(node, &type), "cuGraphNodeGetType");
            all.push_back(type);
        }
        return all;
    }
    // Edges, as numbers of nodes.
    std::vector<std::pair<std::size_t, std::size_t>> edges() const
    {
        std::size_t count = 0;
        check(driver().graph_get_edges(graph_, nullptr, nullptr, &count), "cuGraphGetEdges");
        std::vector<GraphNode> from(count), to(count);
        if (count) check(driver().graph_get_edges(graph_, from.data(), to.data(), &count), "cuGraphGetEdges");
        const std::vector<GraphNode> all = nodes();
        const auto number = [&](GraphNode node) {
            return static_cast<std::size_t>(std::find(all.begin(), all.end(), node) - all.begin());
        };
        std::vector<std::pair<std::size_t, std::size_t>> numbers;
        for (std::size_t n = 0; n < count; ++n) numbers.emplace_back(number(from[n]), number(to[n]));
        return numbers;
    }

private:
    std::vector<GraphNode> nodes() const
    {
        std::size_t count = 0;
        check(driver().graph_get_nodes(graph_, nullptr, &count), "cuGraphGetNodes");
        std::vector<GraphNode> all(count);
        if (count) check(driver().graph_get_nodes(graph_, all.data(), &count), "cuGraphGetNodes");
        return all;
    }

    Graph graph_ = nullptr;
};

class Instantiated {
public:
    explicit Instantiated(const Captured &graph)
    {
        check(driver().graph_instantiate(&exec_, graph.get(), 0), "cuGraphInstantiateWithFlags");
    }
    ~Instantiated() { driver().graph_exec_destroy(exec_); }
    Instantiated(const Instantiated &) = delete;
    Instantiated &operator=(const Instantiated &) = delete;

    void launch(const OwnStream &stream) const
    {
        check(driver().graph_launch(exec_, stream.get()), "cuGraphLaunch");
        stream.synchronize();
    }
    // Empty, or why the driver did not take the other graph.
    std::string update(const Captured &other) const
    {
        GraphUpdateResult result;
        const int status = driver().graph_exec_update(exec_, other.get(), &result);
        return status == 0 ? "" : "update result " + std::to_string(result.result);
    }

private:
    GraphExec exec_ = nullptr;
};

class GraphTest : public testing::TestWithParam<std::size_t> {
protected:
    const CallKind &kind() const { return call_kinds()[GetParam()]; }
    const std::uint64_t seed_ = conformance::session().seed;
};

// What a fresh execute of a call gives.
std::vector<conformance::Bytes> executed(attn_plan plan, Call &call, const OwnStream &stream)
{
    call.poison();
    Resident resident(plan, call.args());
    EXPECT_EQ(resident.execute(plan, stream.get()), ATTN_OK) << attn_last_error();
    stream.synchronize();
    resident.read(call.args());
    return output_bytes(call.args());
}

TEST_P(GraphTest, CapturesInGlobalModeAndGivesTheSameBits)
{
    const ContextScope scope;
    const OwnStream stream;
    const auto call = kind().make(seed_);
    const auto plan = call->plan(shared_handle());
    ASSERT_TRUE(plan);
    const auto expected = executed(plan.get(), *call, stream);
    call->check();

    call->poison();
    Resident resident(plan.get(), call->args());
    const Captured graph(resident, plan.get(), stream);
    const auto types = graph.types();
    EXPECT_FALSE(types.empty());
    for (int type : types) EXPECT_EQ(type, kKernelNode);
    // Capturing has run nothing.
    resident.read(call->args());
    EXPECT_NE(output_bytes(call->args()), expected);
    const Instantiated exec(graph);
    for (int replay = 0; replay < 3; ++replay) {
        call->poison();
        resident.write(call->args());
        resident.fill_workspace(static_cast<unsigned char>(0x55 * replay));
        exec.launch(stream);
        resident.read(call->args());
        EXPECT_EQ(output_bytes(call->args()), expected) << "replay " << replay;
    }
}

TEST_P(GraphTest, FollowsLengthsThatChangeOnTheDevice)
{
    const ContextScope scope;
    const OwnStream stream;
    const auto call = kind().make(seed_);
    const auto plan = call->plan(shared_handle());
    ASSERT_TRUE(plan);
    Resident resident(plan.get(), call->args());
    const Captured graph(resident, plan.get(), stream);
    const Instantiated exec(graph);
    for (std::uint64_t n = 0; n < 4; ++n) {
        const auto other = variation(kind(), *call, seed_ + 10000 * (n + 1));
        const auto expected = executed(plan.get(), *other, stream);
        other->check();
        other->poison();
        resident.write(other->args());
        exec.launch(stream);
        resident.read(other->args());
        EXPECT_EQ(output_bytes(other->args()), expected) << "variation " << n;
    }
}

TEST_P(GraphTest, TakesNewAddressesByUpdate)
{
    const ContextScope scope;
    const OwnStream stream;
    const auto call = kind().make(seed_);
    const auto plan = call->plan(shared_handle());
    ASSERT_TRUE(plan);
    Resident first(plan.get(), call->args());
    const Captured graph(first, plan.get(), stream);
    const Instantiated exec(graph);
    const auto other = variation(kind(), *call, seed_ + 777);
    const auto expected = executed(plan.get(), *other, stream);
    other->poison();
    Resident second(plan.get(), other->args());
    const Captured graph_of_second(second, plan.get(), stream);
    EXPECT_EQ(graph.types(), graph_of_second.types());
    EXPECT_EQ(graph.edges(), graph_of_second.edges());
    ASSERT_EQ(exec.update(graph_of_second), "");
    exec.launch(stream);
    second.read(other->args());
    EXPECT_EQ(output_bytes(other->args()), expected);
}

std::string name_of(const testing::TestParamInfo<std::size_t> &info)
{
    std::string name = call_kinds()[info.param].name;
    std::replace(name.begin(), name.end(), ' ', '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(Kinds, GraphTest, testing::Range(std::size_t{0}, call_kinds().size()), name_of);

} // namespace
} // namespace gpu_test
