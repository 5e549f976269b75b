#include "covering.h"

#include "number.h"

#include <algorithm>
#include <stdexcept>

namespace conformance {
namespace {

constexpr int unset = -1;

// Two-dimensional set of pairs of values, each value with a number of its own.
class PairSet {
public:
    explicit PairSet(std::size_t values) : values_(values), bits_(values * values, false) {}
    bool has(int a, int b) const { return bits_[at(a, b)]; }
    void set(int a, int b, bool x) { bits_[at(a, b)] = bits_[at(b, a)] = x; }

private:
    std::size_t at(int a, int b) const { return std::size_t(a) * values_ + std::size_t(b); }
    std::size_t values_;
    std::vector<bool> bits_;
};

class Generator {
public:
    Generator(const std::vector<AxisShape> &axes, const std::vector<Exclusion> &exclusions, std::uint64_t seed)
        : axes_(axes), random_(seed, 7)
    {
        for (const AxisShape &axis : axes) first_.push_back(values_), values_ += int(axis.values.size());
        excluded_ = PairSet(values_), open_ = PairSet(values_);
        for (const Exclusion &e : exclusions)
            for (const std::string &a : e.values_a)
                for (const std::string &b : e.values_b) excluded_.set(number(e.axis_a, a), number(e.axis_b, b), true);
        for (std::size_t x = 0; x < axes.size(); ++x)
            for (std::size_t y = x + 1; y < axes.size(); ++y)
                for (std::size_t a = 0; a < axes[x].values.size(); ++a)
                    for (std::size_t b = 0; b < axes[y].values.size(); ++b)
                        if (!excluded_.has(first_[x] + int(a), first_[y] + int(b))) {
                            open_.set(first_[x] + int(a), first_[y] + int(b), true);
                            todo_.push_back({int(x), int(a), int(y), int(b)});
                        }
    }

    CoveringArray run()
    {
        CoveringArray array;
        array.pairs_possible = todo_.size();
        for (std::size_t n = todo_.size(); n > 1; --n) std::swap(todo_[n - 1], todo_[random_.integer(0, int(n) - 1)]);
        for (const Pair &pair : todo_) {
            if (!open_.has(first_[pair.x] + pair.a, first_[pair.y] + pair.b)) continue;
            std::vector<int> best;
            std::size_t best_count = 0;
            for (int attempt = 0; attempt < 60 && (attempt < 8 || best.empty()); ++attempt) {
                std::vector<int> row(axes_.size(), unset);
                row[pair.x] = pair.a, row[pair.y] = pair.b;
                if (!complete(row)) continue;
                const std::size_t count = new_pairs(row, false);
                if (best.empty() || count > best_count) best = row, best_count = count;
            }
            if (best.empty()) {
                array.missing.push_back(axes_[pair.x].name + "=" + axes_[pair.x].values[pair.a] + ", " +
                                        axes_[pair.y].name + "=" + axes_[pair.y].values[pair.b]);
                continue;
            }
            array.pairs_covered += new_pairs(best, true);
            array.rows.push_back(best);
        }
        return array;
    }

    std::vector<int> any_row()
    {
        for (int attempt = 0; attempt < 1000; ++attempt) {
            std::vector<int> row(axes_.size(), unset);
            if (complete(row, true)) return row;
        }
        throw std::runtime_error("the exclusions leave no row");
    }

private:
    struct Pair {
        int x, a, y, b; // axis, value, axis, value
    };

    int number(const std::string &axis, const std::string &value) const
    {
        for (std::size_t x = 0; x < axes_.size(); ++x) {
            if (axes_[x].name != axis) continue;
            const auto &values = axes_[x].values;
            const auto found = std::find(values.begin(), values.end(), value);
            if (found != values.end()) return first_[x] + int(found - values.begin());
        }
        throw std::invalid_argument("an exclusion names " + axis + "=" + value + ", which does not exist");
    }

    bool allowed(const std::vector<int> &row, std::size_t x, int a) const
    {
        for (std::size_t y = 0; y < row.size(); ++y)
            if (y != x && row[y] != unset && excluded_.has(first_[x] + a, first_[y] + row[y])) return false;
        return true;
    }

    bool hollow(std::size_t x, int a) const { return !axes_[x].hollow.empty() && axes_[x].hollow[a]; }

    // Gives the unset axes, in random order, the value with the most open pairs to those set; ties at random.
    bool complete(std::vector<int> &row, bool at_random = false)
    {
        std::vector<std::size_t> order;
        for (std::size_t x = 0; x < row.size(); ++x)
            if (row[x] == unset) order.push_back(x);
        for (std::size_t n = order.size(); n > 1; --n) std::swap(order[n - 1], order[random_.integer(0, int(n) - 1)]);
        for (std::size_t x : order) {
            int best = unset, best_count = -2, ties = 0;
            for (int a = 0; a < int(axes_[x].values.size()); ++a) {
                if (!allowed(row, x, a)) continue;
                int count = 0;
                for (std::size_t y = 0; y < row.size() && !at_random; ++y)
                    if (row[y] != unset) count += open_.has(first_[x] + a, first_[y] + row[y]);
                if (hollow(x, a) && !at_random) count = -1; // only where nothing else is left
                if (count > best_count)
                    best = a, best_count = count, ties = 1;
                else if (count == best_count && random_.integer(0, ties++) == 0)
                    best = a;
            }
            if (best == unset) return false;
            row[x] = best;
        }
        return true;
    }

    // Open pairs that the row counts for; closes them if asked to.
    std::size_t new_pairs(const std::vector<int> &row, bool close)
    {
        std::size_t hollows = 0, count = 0;
        for (std::size_t x = 0; x < row.size(); ++x) hollows += hollow(x, row[x]);
        for (std::size_t x = 0; x < row.size(); ++x)
            for (std::size_t y = x + 1; y < row.size(); ++y) {
                const std::size_t in_pair = std::size_t(hollow(x, row[x])) + hollow(y, row[y]);
                const int a = first_[x] + row[x], b = first_[y] + row[y];
                if (in_pair != hollows || !open_.has(a, b)) continue;
                ++count;
                if (close) open_.set(a, b, false);
            }
        return count;
    }

    const std::vector<AxisShape> &axes_;
    Random random_;
    std::vector<int> first_; // number of the first value of each axis
    int values_ = 0;
    PairSet excluded_{0}, open_{0};
    std::vector<Pair> todo_;
};

} // namespace

CoveringArray cover_pairs(const std::vector<AxisShape> &axes, const std::vector<Exclusion> &exclusions,
                          std::uint64_t seed)
{
    return Generator(axes, exclusions, seed).run();
}

std::vector<int> random_row(const std::vector<AxisShape> &axes, const std::vector<Exclusion> &exclusions,
                            std::uint64_t seed)
{
    return Generator(axes, exclusions, seed).any_row();
}

} // namespace conformance
