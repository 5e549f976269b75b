/* A CUDA driver for tests of what the package itself asks one for. Device memory is that of the host; every call is
   written down, for fake_log(). Built and loaded by test_cuda.py. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int result;
static char text[1 << 16];
static int failing; /* what the next call that is written down returns */

static result note(const char *format, ...)
{
    const result answer = failing;
    size_t length = strlen(text);
    va_list values;
    va_start(values, format);
    vsnprintf(text + length, sizeof text - length, format, values);
    va_end(values);
    failing = 0;
    return answer;
}
const char *fake_log(void)
{
    static char copy[sizeof text];
    memcpy(copy, text, sizeof text);
    text[0] = 0;
    return copy;
}
void fake_fail(int code)
{
    failing = code;
}

static int depth;
result cuInit(unsigned flags)
{
    return (result)flags;
}
result cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return 0;
}
result cuDevicePrimaryCtxRetain(void **context, int device)
{
    *context = (void *)(uintptr_t)(1000 + device);
    ++depth;
    return 0;
}
result cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    --depth;
    return 0;
}
result cuCtxPushCurrent_v2(void *context)
{
    depth += context ? 1 : 0;
    return 0;
}
result cuCtxPopCurrent_v2(void **context)
{
    *context = NULL;
    --depth;
    return 0;
}
int fake_depth(void)
{
    return depth;
}
result cuGetErrorName(result code, const char **name)
{
    *name = code ? "CUDA_ERROR_PRETENDED" : "CUDA_SUCCESS";
    return 0;
}
result cuGetErrorString(result code, const char **words)
{
    *words = code ? "pretended" : "no error";
    return 0;
}
result cuPointerGetAttribute(void *value, int attribute, unsigned long long address)
{
    (void)address;
    *(int *)value = getenv("FAKE_ORDINAL") ? atoi(getenv("FAKE_ORDINAL")) : 0;
    return attribute == 9 ? 0 : 1;
}
result cuEventCreate(void **event, unsigned flags)
{
    *event = (void *)(uintptr_t)7;
    return note("create %u;", flags);
}
result cuEventRecord(void *event, void *stream)
{
    return note("record %d on %d;", (int)(uintptr_t)event, (int)(uintptr_t)stream);
}
result cuStreamWaitEvent(void *stream, void *event, unsigned flags)
{
    return note("%d waits for %d%s;", (int)(uintptr_t)stream, (int)(uintptr_t)event, flags ? " oddly" : "");
}
result cuEventDestroy_v2(void *event)
{
    return note("destroy %d;", (int)(uintptr_t)event);
}
result cuStreamSynchronize(void *stream)
{
    return note("synchronize %d;", (int)(uintptr_t)stream);
}
result cuMemAllocAsync(unsigned long long *memory, size_t bytes, void *stream)
{
    *memory = (unsigned long long)(uintptr_t)malloc(bytes);
    return note("alloc %d on %d;", (int)bytes, (int)(uintptr_t)stream);
}
result cuMemFreeAsync(unsigned long long memory, void *stream)
{
    free((void *)(uintptr_t)memory);
    return note("free on %d;", (int)(uintptr_t)stream);
}
result cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t bytes, void *stream)
{
    memcpy(to, (void *)(uintptr_t)from, bytes);
    return note("copy %d on %d;", (int)bytes, (int)(uintptr_t)stream);
}
