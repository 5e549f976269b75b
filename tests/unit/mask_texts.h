// Programs whose emitted text the build compiles for the host: see mask_texts.cc.
#ifndef ATTN_TESTS_UNIT_MASK_TEXTS_H
#define ATTN_TESTS_UNIT_MASK_TEXTS_H

namespace mask_test {

/// Every atom, every operator, every kind of diagonal and parameter. The descriptor has no diagonal; 2 heads of K, 4 of
/// OUT.
constexpr const char *kMaskTexts[] = {
    "causal:tl",
    "causal:br",
    "causal:pos not",
    "band:tl(9,40) band:br(-2,inf) or",
    "band:pos(20,10) pow2:pos or id_gt or",
    "prefix(11)",
    "first_rows(3) last_rows(2) or",
    "vertical(3,1,4) causal:tl and",
    "vertical(5,-3,0) not",
    "pow2:br(2) prefix(1) or",
    "id_eq causal:br and",
    "id_ge",
    "id_gt/3 not id_q(1) id_kv/1(1) and not and",
    "id_eq/1 not id_kv(2) or first_rows(3) last_rows(2) or or",
    "heads(1,3)",
    "heads{1|0,1,0,1} not causal:br or",
    "heads(0,1) causal:br and heads(0,1) not band:br(20,20) and or",
    "band:br{2|17,0,0,inf,inf,60.5,3,17} prefix(2) or",
    "band:br(0,7){1|4.5,7.5|0.3,0.15}",
    "prefix(3)+0.25 band:tl(5,5) or",
    "prefix(0) prefix(0) prefix(0) prefix(9) or or or id_eq and",
};
constexpr int kMaskTextCount = sizeof kMaskTexts / sizeof *kMaskTexts;

} // namespace mask_test

#endif
