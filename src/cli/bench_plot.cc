#include "bench_report.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace attn::cli {
namespace {

// In pixels. A label of 46 characters of 12 px fits left of the bars, the figures right of them.
constexpr int kLabels = 330, kBars = 480, kFigures = 170, kWidth = kLabels + kBars + kFigures;
constexpr int kTop = 74, kRow = 24, kBar = 16, kBottom = 36;

constexpr const char *kColours[] = {"#3b6fb6", "#d98032"}; // multiply_add, read; told apart in any kind of sight

std::string escaped(const std::string &text)
{
    std::string safe;
    for (const char c : text) {
        switch (c) {
        case '&':
            safe += "&amp;";
            break;
        case '<':
            safe += "&lt;";
            break;
        case '>':
            safe += "&gt;";
            break;
        case '"':
            safe += "&quot;";
            break;
        default:
            safe += c;
        }
    }
    return safe;
}

std::string number(double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.1f", x);
    return text;
}

void add_text(std::ostringstream &svg, double x, double y, const char *anchor, const std::string &text,
              const char *more = "")
{
    svg << "<text x=\"" << number(x) << "\" y=\"" << number(y) << "\" text-anchor=\"" << anchor << '"' << more << '>'
        << escaped(text) << "</text>\n";
}

const char *colour(Ceiling ceiling)
{
    return kColours[ceiling == Ceiling::read];
}

void add_legend(std::ostringstream &svg, const Ceilings &c)
{
    const auto entry = [&](double x, Ceiling ceiling, const std::string &text) {
        svg << "<rect x=\"" << number(x) << "\" y=\"44\" width=\"12\" height=\"12\" fill=\"" << colour(ceiling)
            << "\"/>\n";
        add_text(svg, x + 18, 54, "start", text);
    };
    entry(16, Ceiling::multiply_add,
          "of " + rate_text(c.multiply_add, Ceiling::multiply_add) + ", multiply-adds on registers (" + c.isa +
              ", float32)");
    entry(kLabels + 130, Ceiling::read, "of " + rate_text(c.read, Ceiling::read) + ", reading memory");
}

} // namespace

std::string plot(const BenchSetup &setup, const std::vector<BenchResult> &results)
{
    double most = 1;
    for (const BenchResult &r : results) most = std::max(most, r.to_ceiling());
    const int quarters = static_cast<int>(std::ceil(most * 4)); // what caches serve may exceed the ceiling of memory
    const double scale = kBars / (0.25 * quarters);
    const int rows_end = kTop + kRow * static_cast<int>(results.size()), height = rows_end + kBottom;

    std::ostringstream svg;
    svg << R"(<?xml version="1.0" encoding="UTF-8"?>)" << '\n'
        << R"(<svg xmlns="http://www.w3.org/2000/svg" width=")" << kWidth << "\" height=\"" << height
        << "\" viewBox=\"0 0 " << kWidth << ' ' << height
        << "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n"
        << "<title>attn bench</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
    add_text(svg, 16, 26, "start",
             "libattn " + version_text() + ", percent of what the machine can do: " + setup.processor + ", " +
                 std::to_string(setup.threads) + (setup.threads == 1 ? " thread" : " threads") + ", medians of " +
                 std::to_string(setup.repetitions),
             " font-size=\"14\" font-weight=\"bold\"");
    add_legend(svg, setup.ceilings);
    const int step = (quarters + 7) / 8; // at most 9 lines
    for (int quarter = 0; quarter <= quarters; quarter += step) {
        const double x = kLabels + scale * 0.25 * quarter;
        svg << "<line x1=\"" << number(x) << "\" y1=\"" << kTop - 4 << "\" x2=\"" << number(x) << "\" y2=\"" << rows_end
            << "\" stroke=\"" << (quarter == 4 ? "#888" : "#ddd") << "\"/>\n";
        add_text(svg, x, rows_end + 18, "middle", std::to_string(25 * quarter) + " %");
    }
    int y = kTop;
    for (const BenchResult &r : results) {
        const double width = std::max(1.0, scale * r.to_ceiling()), text_y = y + kBar - 4;
        add_text(svg, kLabels - 8, text_y, "end", r.shape.name);
        svg << "<rect x=\"" << kLabels << "\" y=\"" << y << "\" width=\"" << number(width) << "\" height=\"" << kBar
            << "\" fill=\"" << colour(r.shape.ceiling) << "\"/>\n";
        add_text(svg, kLabels + width + 6, text_y, "start",
                 number(r.to_ceiling() * 100) + " %, " + rate_text(r.rate(), r.shape.ceiling),
                 " paint-order=\"stroke\" stroke=\"#fff\" stroke-width=\"4\""); // so that no line strikes it out
        y += kRow;
    }
    svg << "</svg>\n";
    return svg.str();
}

} // namespace attn::cli
