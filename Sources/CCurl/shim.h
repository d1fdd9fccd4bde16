#include <curl/curl.h>

/* curl_easy_setopt and curl_easy_getinfo are variadic, which Swift can't call: one function for each type of argument that we pass. */

typedef size_t (*thecloud_bytes)(char *bytes, size_t size, size_t count, void *context);
typedef int (*thecloud_progress)(void *context, curl_off_t download_total, curl_off_t downloaded, curl_off_t upload_total, curl_off_t uploaded);
typedef curl_socket_t (*thecloud_opener)(void *context, curlsocktype purpose, struct curl_sockaddr *address);

static inline CURLcode thecloud_set_long(CURL *handle, CURLoption option, long value) {
    return curl_easy_setopt(handle, option, value);
}
static inline CURLcode thecloud_set_size(CURL *handle, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(handle, option, value);
}
static inline CURLcode thecloud_set_text(CURL *handle, CURLoption option, const char *text) {
    return curl_easy_setopt(handle, option, text);
}
static inline CURLcode thecloud_set_pointer(CURL *handle, CURLoption option, const void *pointer) {
    return curl_easy_setopt(handle, option, pointer);
}
static inline CURLcode thecloud_set_list(CURL *handle, CURLoption option, struct curl_slist *list) {
    return curl_easy_setopt(handle, option, list);
}
static inline CURLcode thecloud_set_bytes(CURL *handle, CURLoption option, thecloud_bytes callback) {
    return curl_easy_setopt(handle, option, callback);
}
static inline CURLcode thecloud_set_progress(CURL *handle, thecloud_progress callback) {
    return curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, callback);
}
static inline CURLcode thecloud_set_opener(CURL *handle, thecloud_opener callback) {
    return curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, callback);
}
static inline CURLcode thecloud_get_long(CURL *handle, CURLINFO info, long *value) {
    return curl_easy_getinfo(handle, info, value);
}
static inline CURLcode thecloud_get_socket(CURL *handle, CURLINFO info, curl_socket_t *value) {
    return curl_easy_getinfo(handle, info, value);
}
