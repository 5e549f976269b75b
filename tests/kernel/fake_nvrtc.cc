#include "fake_nvrtc.h"

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

namespace {

struct Program {
    std::string text; ///< Name, headers and source.
    std::string image, log;
    bool is_ptx = false;
};

FakeNvrtc fake;

/// 0, or an error if this function is to fail.
int result_of(const char *function)
{
    const char *failing = fake.failing.load();
    return failing && std::strcmp(failing, function) == 0 ? 6 : 0;
}

int give(const std::string &text, const char *function, size_t *bytes)
{
    *bytes = text.size() + 1;
    return result_of(function);
}

int give(const std::string &text, const char *function, char *out)
{
    std::memcpy(out, text.c_str(), text.size() + 1);
    return result_of(function);
}

} // namespace

extern "C" {

FakeNvrtc *fake_nvrtc()
{
    return &fake;
}

int nvrtcVersion(int *major, int *minor)
{
    *major = fake.version / 1000;
    *minor = fake.version % 1000 / 10;
    return result_of("nvrtcVersion");
}

const char *nvrtcGetErrorString(int)
{
    return "FAKE_ERROR";
}

int nvrtcGetNumSupportedArchs(int *count)
{
    *count = 3;
    return result_of("nvrtcGetNumSupportedArchs");
}

int nvrtcGetSupportedArchs(int *numbers)
{
    numbers[0] = 80;
    numbers[1] = 90;
    numbers[2] = fake.latest;
    return result_of("nvrtcGetSupportedArchs");
}

int nvrtcCreateProgram(Program **program, const char *source, const char *name, int headers, const char *const *texts,
                       const char *const *names)
{
    if (const int result = result_of("nvrtcCreateProgram")) return result;
    *program = new Program;
    ++fake.programs;
    (*program)->text = std::string(name) + "\n" + source;
    for (int i = 0; i < headers; ++i) (*program)->text += std::string("\n") + names[i] + "\n" + texts[i];
    return 0;
}

int nvrtcDestroyProgram(Program **program)
{
    delete *program;
    *program = nullptr;
    --fake.programs;
    return 0;
}

int nvrtcCompileProgram(Program *program, int options, const char *const *texts)
{
    ++fake.compiles;
    std::this_thread::sleep_for(std::chrono::milliseconds(fake.milliseconds));
    for (int i = 0; i < options; ++i) {
        program->image += std::string(texts[i]) + "\n";
        program->is_ptx = program->is_ptx || std::strstr(texts[i], "compute_");
    }
    program->image = (program->is_ptx ? "// PTX\n" : "\177ELF\n") + program->image + program->text;
    for (int i = 0; i < fake.log_lines; ++i) program->log += "error " + std::to_string(i) + ": fake\n";
    return result_of("nvrtcCompileProgram");
}

int nvrtcGetProgramLogSize(Program *program, size_t *bytes)
{
    return give(program->log, "nvrtcGetProgramLogSize", bytes);
}

int nvrtcGetProgramLog(Program *program, char *out)
{
    return give(program->log, "nvrtcGetProgramLog", out);
}

int nvrtcGetCUBINSize(Program *program, size_t *bytes)
{
    return give(program->image, "nvrtcGetCUBINSize", bytes);
}

int nvrtcGetCUBIN(Program *program, char *out)
{
    return give(program->image, "nvrtcGetCUBIN", out);
}

int nvrtcGetPTXSize(Program *program, size_t *bytes)
{
    return give(program->image, "nvrtcGetPTXSize", bytes);
}

int nvrtcGetPTX(Program *program, char *out)
{
    return give(program->image, "nvrtcGetPTX", out);
}
}
