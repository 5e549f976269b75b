#include "cubin.h"

#include <algorithm>
#include <cstring>
#include <elf.h>
#include <stdexcept>

namespace attn::kernel {
namespace {

/// Attributes in the section .nv.info that the sizes are in; each has the number of a symbol and a value.
constexpr uint8_t kFrameSize = 0x11, kRegisters = 0x2f;
constexpr uint8_t kSized = 0x04; ///< The format of an attribute whose size follows it.

template <class T>
T read(const std::string &bytes, uint64_t at)
{
    T value;
    if (at > bytes.size() || bytes.size() - at < sizeof value) throw std::runtime_error("the cubin is cut");
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

std::string text_at(const std::string &bytes, uint64_t at)
{
    const size_t end = at < bytes.size() ? bytes.find('\0', at) : std::string::npos;
    if (end == std::string::npos) throw std::runtime_error("the cubin is cut");
    return bytes.substr(at, end - at);
}

} // namespace

std::vector<KernelResources> read_cubin(const std::string &cubin)
{
    const Elf64_Ehdr header = read<Elf64_Ehdr>(cubin, 0);
    constexpr uint16_t kCuda = 190; // EM_CUDA
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != kCuda)
        throw std::runtime_error("this is no cubin");
    std::vector<Elf64_Shdr> sections;
    for (uint64_t i = 0; i < header.e_shnum; ++i)
        sections.push_back(read<Elf64_Shdr>(cubin, header.e_shoff + i * header.e_shentsize));
    if (header.e_shstrndx >= sections.size()) throw std::runtime_error("the cubin names no sections");
    const uint64_t names = sections[header.e_shstrndx].sh_offset;
    const auto name_of = [&](const Elf64_Shdr &section) { return text_at(cubin, names + section.sh_name); };

    std::vector<KernelResources> kernels;
    const auto find = [&](const std::string &name) {
        return std::find_if(kernels.begin(), kernels.end(), [&](const KernelResources &k) { return k.name == name; });
    };
    const Elf64_Shdr *symbols = nullptr;
    const std::string text = ".text.", shared = ".nv.shared.";
    for (const Elf64_Shdr &section : sections) {
        const std::string name = name_of(section);
        if (section.sh_type == SHT_SYMTAB) symbols = &section;
        if (name.rfind(text, 0) == 0) kernels.push_back({name.substr(text.size())});
    }
    if (!symbols || symbols->sh_link >= sections.size()) throw std::runtime_error("the cubin has no symbols");
    for (const Elf64_Shdr &section : sections) {
        const std::string name = name_of(section);
        if (name.rfind(shared, 0) == 0) {
            const auto kernel = find(name.substr(shared.size()));
            if (kernel != kernels.end()) kernel->shared_bytes = static_cast<int64_t>(section.sh_size);
        }
        if (name != ".nv.info") continue;
        const uint64_t end = section.sh_offset + section.sh_size;
        for (uint64_t at = section.sh_offset; at + 4 <= end;) {
            const uint8_t format = read<uint8_t>(cubin, at), attribute = read<uint8_t>(cubin, at + 1);
            const uint16_t size = format == kSized ? read<uint16_t>(cubin, at + 2) : uint16_t{0};
            at += 4;
            if (format == kSized && size == 8 && (attribute == kFrameSize || attribute == kRegisters)) {
                const Elf64_Sym symbol = read<Elf64_Sym>(cubin, symbols->sh_offset + read<uint32_t>(cubin, at) *
                                                                                         uint64_t{sizeof(Elf64_Sym)});
                const auto kernel = find(text_at(cubin, sections[symbols->sh_link].sh_offset + symbol.st_name));
                const int64_t value = read<uint32_t>(cubin, at + 4);
                if (kernel != kernels.end())
                    (attribute == kRegisters ? kernel->registers : kernel->local_bytes) = value;
            }
            at += size;
        }
    }
    for (const KernelResources &kernel : kernels)
        if (kernel.registers < 0 || kernel.local_bytes < 0)
            throw std::runtime_error("the cubin does not tell what " + kernel.name + " takes");
    return kernels;
}

} // namespace attn::kernel
