#include "tests/fake_cuda/image.h"

#include <algorithm>
#include <cstring>
#include <elf.h>

namespace fake_cuda {
namespace {

/// The end of an ELF file: of its section headers or of the section that reaches furthest.
size_t elf_bytes(const char *image, const Elf64_Ehdr &header)
{
    size_t end = header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
    for (int i = 0; i < header.e_shnum; ++i) {
        Elf64_Shdr section;
        memcpy(&section, image + header.e_shoff + size_t(i) * header.e_shentsize, sizeof section);
        if (section.sh_type != SHT_NOBITS) end = std::max<size_t>(end, section.sh_offset + section.sh_size);
    }
    return std::max<size_t>(end, header.e_phoff + size_t{header.e_phnum} * header.e_phentsize);
}

/// The section of a name, empty if there is none.
std::string find_section(const std::string &image, const std::string &name)
{
    Elf64_Ehdr header;
    memcpy(&header, image.data(), sizeof header);
    const auto section_at = [&](int i) {
        Elf64_Shdr section;
        memcpy(&section, image.data() + header.e_shoff + size_t(i) * header.e_shentsize, sizeof section);
        return section;
    };
    if (header.e_shnum == 0) return "";
    const Elf64_Shdr names = section_at(header.e_shstrndx);
    for (int i = 0; i < header.e_shnum; ++i) {
        const Elf64_Shdr section = section_at(i);
        if (name == image.data() + names.sh_offset + section.sh_name)
            return image.substr(section.sh_offset, section.sh_size);
    }
    return "";
}

/// Attributes of a kernel in a cubin: a format, a kind, and 16 bits that are the value or the size of what follows.
int count_parameters(const std::string &attributes)
{
    constexpr unsigned char kFollows = 0x04, kParameter = 0x17;
    int count = 0;
    for (size_t at = 0; at + 4 <= attributes.size();) {
        const auto format = static_cast<unsigned char>(attributes[at]);
        const auto kind = static_cast<unsigned char>(attributes[at + 1]);
        uint16_t size;
        memcpy(&size, attributes.data() + at + 2, sizeof size);
        count += format == kFollows && kind == kParameter;
        at += 4 + (format == kFollows ? size : 0);
    }
    return count;
}

} // namespace

bool read_image(const void *image, std::string *out, bool *is_ptx)
{
    const char *bytes = static_cast<const char *>(image);
    *is_ptx = memcmp(bytes, ELFMAG, SELFMAG) != 0;
    if (*is_ptx) {
        *out = bytes;
        return out->find(".version") != std::string::npos && out->find(".target") != std::string::npos;
    }
    Elf64_Ehdr header;
    memcpy(&header, bytes, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS64) return false;
    out->assign(bytes, elf_bytes(bytes, header));
    return true;
}

bool find_kernel(const std::string &image, bool is_ptx, const char *name, int *parameters)
{
    *parameters = -1;
    if (!is_ptx) {
        if (find_section(image, std::string(".text.") + name).empty()) return false;
        const std::string attributes = find_section(image, std::string(".nv.info.") + name);
        if (!attributes.empty()) *parameters = count_parameters(attributes);
        return true;
    }
    const std::string head = std::string(".entry ") + name;
    for (size_t at = image.find(head); at != std::string::npos; at = image.find(head, at + 1)) {
        const size_t open = image.find_first_not_of(" \t\n", at + head.size());
        if (open == std::string::npos || image[open] != '(') continue;
        const std::string list = image.substr(open, image.find(')', open) - open);
        *parameters = 0;
        for (size_t found = list.find(".param"); found != std::string::npos; found = list.find(".param", found + 1))
            ++*parameters;
        return true;
    }
    return false;
}

} // namespace fake_cuda
