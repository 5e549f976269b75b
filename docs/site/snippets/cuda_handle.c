/* Asks for CUDA devices and makes a handle for the first, or says why there is none. */
#include <attn/attn.h>
#include <stdio.h>

int main(void)
{
    /* [devices] */
    int32_t count = 0;
    if (attn_device_count(ATTN_DEVICE_CUDA, &count) != ATTN_OK)
        printf("CUDA is absent: %s\n", attn_last_error());
    for (int32_t id = 0; id < count; ++id) {
        attn_device_properties device = {.size = sizeof device};
        if (attn_device_info(ATTN_DEVICE_CUDA, id, &device) != ATTN_OK) return 1;
        printf("%d: %s, %s, %d SMs\n", id, device.name, device.arch, device.compute_units);
    }
    /* [devices] */

    /* [handle] */
    const attn_options options = {
        .size = sizeof options, .device = ATTN_DEVICE_CUDA, .device_id = 0};
    attn_handle handle = NULL;
    const attn_status status = attn_create(&options, &handle);
    if (status != ATTN_OK) printf("%s: %s\n", attn_status_name(status), attn_last_error());
    /* [handle] */
    attn_destroy(handle);
    return count > 0 ? status != ATTN_OK : status != ATTN_ERROR_NO_DEVICE;
}
