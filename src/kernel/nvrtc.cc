#include "nvrtc.h"

#include "target.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <dlfcn.h>

namespace attn::kernel {

/// Of nvrtc.h, which building the library does not need. A result of 0 is success.
struct Nvrtc::Functions {
    using Program = struct OpaqueProgram *;

    int (*version)(int *major, int *minor);
    const char *(*error_string)(int result);
    int (*count_architectures)(int *count);
    int (*architectures)(int *numbers);
    int (*create)(Program *program, const char *source, const char *name, int headers, const char *const *texts,
                  const char *const *names);
    int (*destroy)(Program *program);
    int (*compile)(Program program, int options, const char *const *texts);
    int (*log_size)(Program program, size_t *bytes);
    int (*log)(Program program, char *log);
    int (*cubin_size)(Program program, size_t *bytes);
    int (*cubin)(Program program, char *image);
    int (*ptx_size)(Program program, size_t *bytes);
    int (*ptx)(Program program, char *image);
};

namespace {

constexpr int32_t kOldest = 12000; ///< C++20 and sm_90a came with it.
constexpr size_t kMostLog = 3000;  ///< Bytes of a log that fit in a message with the rest.

/// The beginning of a log, which has the first errors, cut at the end of a line.
std::string first_lines(const std::string &log)
{
    const size_t end = log.find_last_not_of(" \t\r\n");
    if (end == std::string::npos) return "no log";
    if (end < kMostLog) return log.substr(0, end + 1);
    const size_t cut = log.rfind('\n', kMostLog);
    const std::string kept = log.substr(0, cut == std::string::npos ? kMostLog : cut);
    const auto lines = std::count(log.begin() + static_cast<std::ptrdiff_t>(kept.size()), log.end(), '\n');
    return kept + "\n(" + std::to_string(lines) + " more lines)";
}

/// A directory from the environment: set, absolute, and not of a caller with fewer rights.
std::string directory_of(const char *variable)
{
    const char *value = secure_getenv(variable);
    return value && value[0] == '/' ? value : "";
}

std::vector<std::string> directories_in(const std::string &path, const std::string &prefix)
{
    std::vector<std::string> found;
    DIR *directory = opendir(path.c_str());
    if (!directory) return found;
    while (const dirent *entry = readdir(directory)) {
        const std::string name = entry->d_name;
        if (name.compare(0, prefix.size(), prefix) == 0) found.push_back(std::string(path).append(1, '/').append(name));
    }
    closedir(directory);
    std::sort(found.begin(), found.end());
    return found;
}

template <class Function>
bool find_function(void *library, const char *name, Function *function)
{
    *function = reinterpret_cast<Function>(dlsym(library, name));
    return *function != nullptr;
}

} // namespace

std::vector<std::string> compiler_places()
{
    static constexpr const char *kNames[] = {"libnvrtc.so.13", "libnvrtc.so.12"};
    std::vector<std::string> files(std::begin(kNames), std::end(kNames));
    const auto add = [&](const std::string &directory) {
        for (const char *name : kNames) files.push_back(directory + '/' + name);
    };
    for (const char *variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
        const std::string environment = directory_of(variable);
        if (environment.empty()) continue;
        for (const std::string &python : directories_in(environment + "/lib", "python3"))
            for (const char *package : {"cu13", "cuda_nvrtc"})
                add(python + "/site-packages/nvidia/" + package + "/lib");
        add(environment + "/lib");
    }
    for (const char *variable : {"CUDA_HOME", "CUDA_PATH"}) {
        const std::string toolkit = directory_of(variable);
        if (!toolkit.empty()) add(toolkit + "/lib64");
    }
    add("/usr/local/cuda/lib64");
    return files;
}

Nvrtc::Nvrtc() = default;

bool Nvrtc::load(const std::string &file, int32_t driver, std::string *why)
{
    void *library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL); // never closed: its threads and caches stay
    if (!library) {
        const char *error = dlerror();
        *why = error ? error : "cannot be loaded";
        return false;
    }
    auto f = std::make_shared<Functions>();
    const bool complete = find_function(library, "nvrtcVersion", &f->version) &&
                          find_function(library, "nvrtcGetErrorString", &f->error_string) &&
                          find_function(library, "nvrtcGetNumSupportedArchs", &f->count_architectures) &&
                          find_function(library, "nvrtcGetSupportedArchs", &f->architectures) &&
                          find_function(library, "nvrtcCreateProgram", &f->create) &&
                          find_function(library, "nvrtcDestroyProgram", &f->destroy) &&
                          find_function(library, "nvrtcCompileProgram", &f->compile) &&
                          find_function(library, "nvrtcGetProgramLogSize", &f->log_size) &&
                          find_function(library, "nvrtcGetProgramLog", &f->log) &&
                          find_function(library, "nvrtcGetCUBINSize", &f->cubin_size) &&
                          find_function(library, "nvrtcGetCUBIN", &f->cubin) &&
                          find_function(library, "nvrtcGetPTXSize", &f->ptx_size) &&
                          find_function(library, "nvrtcGetPTX", &f->ptx);
    if (!complete) {
        *why = "no NVRTC of version " + version_text(kOldest) + " or later: a function is missing";
        return false;
    }
    int major = 0, minor = 0, count = 0;
    if (f->version(&major, &minor) != 0 || f->count_architectures(&count) != 0 || count <= 0) {
        *why = "does not tell its version or its architectures";
        return false;
    }
    version_ = 1000 * major + 10 * minor;
    if (version_ < kOldest) {
        *why = "is NVRTC " + version_text(version_) + ": must be " + version_text(kOldest) + " or later";
        return false;
    }
    if (!loads_on_driver(version_, false, driver)) {
        *why = "is NVRTC " + version_text(version_) + ", whose code the driver (CUDA " + version_text(driver) +
               ") cannot load";
        return false;
    }
    architectures_.resize(static_cast<size_t>(count));
    if (f->architectures(architectures_.data()) != 0) {
        *why = "does not tell its architectures";
        return false;
    }
    std::sort(architectures_.begin(), architectures_.end());
    Dl_info place = {};
    const bool known = dladdr(reinterpret_cast<void *>(f->version), &place) != 0 && place.dli_fname;
    const std::string path = known ? place.dli_fname : file;
    // The compiler loads its built-in functions by their name alone; once loaded from beside it they are found so.
    const size_t slash = path.rfind('/');
    if (slash != std::string::npos)
        dlopen((path.substr(0, slash) + "/libnvrtc-builtins.so." + version_text(version_)).c_str(),
               RTLD_NOW | RTLD_LOCAL);
    name_ = "NVRTC " + version_text(version_) + " (" + path + ")";
    functions_ = std::move(f);
    return true;
}

std::unique_ptr<Nvrtc> Nvrtc::open(const std::string &path, int32_t driver, std::string *why)
{
    std::string tried;
    for (const std::string &file : path.empty() ? compiler_places() : std::vector<std::string>{path}) {
        std::unique_ptr<Nvrtc> compiler(new Nvrtc());
        std::string reason;
        if (compiler->load(file, driver, &reason)) return compiler;
        // The loader's message mostly names the file, which the list has already.
        const std::string prefix = file + ": ";
        if (reason.compare(0, prefix.size(), prefix) == 0) reason.erase(0, prefix.size());
        if (!tried.empty()) tried += "; ";
        tried += prefix;
        tried += reason;
    }
    *why = (path.empty() ? "no NVRTC found; tried " : "attn_options.compiler_path = ") + tried;
    return nullptr;
}

bool Nvrtc::choose_target(const std::string &arch, std::string *target, std::string *why) const
{
    Architecture wanted;
    bool is_ptx = false;
    if (!read_target(arch, &wanted, &is_ptx)) {
        *why = "NVRTC compiles for sm_NN and compute_NN, not for " + arch;
        return false;
    }
    *target = arch;
    const auto next = std::lower_bound(architectures_.begin(), architectures_.end(), wanted.number);
    if (next != architectures_.end() && *next == wanted.number) return true;
    if (next != architectures_.end() || is_ptx) {
        *why = name_ + " does not know " + arch;
        return false;
    }
    *target = "compute_" + std::to_string(architectures_.back());
    return true;
}

bool Nvrtc::compile(const Sources &sources, const Request &request, const std::string &target, std::string *image,
                    std::string *why, std::string *remarks) const
{
    std::vector<const Source *> files;
    if (!sources.reach(request.source, request.generated, &files, why)) return false;
    const bool is_ptx = target.rfind("compute_", 0) == 0;

    std::vector<const char *> names = {kGeneratedName.data()}, texts = {request.generated.c_str()};
    for (size_t i = 1; i < files.size(); ++i) {
        names.push_back(files[i]->path);
        texts.push_back(files[i]->c_str());
    }
    std::vector<std::string> options(std::begin(kFixedOptions), std::end(kFixedOptions));
    options.push_back("--gpu-architecture=" + target);
    for (const std::string &define : request.defines) options.push_back("-D" + define);
    std::vector<const char *> option_texts;
    option_texts.reserve(options.size());
    for (const std::string &option : options) option_texts.push_back(option.c_str());

    const Functions &f = *functions_;
    Functions::Program program = nullptr;
    const auto failed = [&](int result, const char *what) {
        if (result == 0) return false;
        *why = name_ + ": " + what + ": " + f.error_string(result);
        return true;
    };
    if (failed(f.create(&program, files[0]->c_str(), files[0]->path, static_cast<int>(names.size()), texts.data(),
                        names.data()),
               "the program was refused"))
        return false;
    const auto destroy = [&](Functions::Program *p) { f.destroy(p); };
    const std::unique_ptr<Functions::Program, decltype(destroy)> owner(&program, destroy);

    const int result = f.compile(program, static_cast<int>(option_texts.size()), option_texts.data());
    const auto read_log = [&] {
        size_t bytes = 0;
        std::string log;
        if (f.log_size(program, &bytes) == 0 && bytes > 1) {
            log.resize(bytes);
            if (f.log(program, log.data()) != 0) log.clear();
            log.resize(std::strlen(log.c_str()));
        }
        return log;
    };
    if (result != 0) {
        const std::string log = read_log();
        *why = name_ + " for " + target + ": " + f.error_string(result) + ":\n" + first_lines(log);
        return false;
    }
    if (remarks) *remarks = read_log();
    size_t bytes = 0;
    if (failed(is_ptx ? f.ptx_size(program, &bytes) : f.cubin_size(program, &bytes), "no image")) return false;
    image->resize(bytes);
    if (failed(is_ptx ? f.ptx(program, image->data()) : f.cubin(program, image->data()), "no image")) return false;
    if (is_ptx) image->resize(std::strlen(image->c_str()));
    if (image->empty()) {
        *why = name_ + " for " + target + ": an image of 0 bytes";
        return false;
    }
    return true;
}

} // namespace attn::kernel
