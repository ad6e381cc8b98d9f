/* Reads HTTP chunks that are one event each, alike but for their text and their numbers. Returns how many there are, with
   their texts in `out`, which has room for `size` bytes, one behind the other, `","` between them; -1 when anything is not
   exactly as `EventTemplate.written` would write it. */

#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>

/* The bytes of `number` in the base, without leading zeros, at the end of `digits`; their count. */
static int written(uint64_t number, unsigned base, char digits[20])
{
    int count = 0;
    do {
        digits[19 - count++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    return count;
}

static const char *past(const char *at, const char *end, const char *expected, size_t size)
{
    return (size_t)(end - at) >= size && !memcmp(at, expected, size) ? at + size : NULL;
}

static const char *past_number(const char *at, const char *end, uint64_t number, unsigned base)
{
    char digits[20];
    int count = written(number, base, digits);
    return past(at, end, digits + 20 - count, count);
}

/* An event is `before`, the text, and `parts` pieces of `after` (so many bytes each as `sizes` says) with a
   number between any two: each of `offsets` plus the number of the token, which follows `tokens`. */
int event_template_read(const char *wire, uint64_t size, const char *before, uint64_t before_size,
                        const char *after, const uint64_t *sizes, int parts, const int64_t *offsets,
                        int64_t tokens, char *out, uint64_t *out_size)
{
    const char *at = wire, *end = wire + size;
    uint64_t used = 0;
    int count = 0;
    for (; at < end; count++) {
        const char *line = at;
        uint64_t length = 0;
        while (at < end && at - line < 8 && *at != '\r') {
            char digit = *at++;
            if (digit >= '0' && digit <= '9')
                length = 16 * length + (digit - '0');
            else if (digit >= 'a' && digit <= 'f')
                length = 16 * length + (digit - 'a' + 10);
            else
                return -1;
        }
        if (past_number(line, end, length, 16) != at || !(at = past(at, end, "\r\n", 2)))
            return -1;
        const char *event = at;
        if (!(at = past(at, end, before, before_size)))
            return -1;
        const char *text = at, *piece = after;
        if (!(at = memmem(at, end - at, piece, sizes[0])))
            return -1;
        if (count) {
            memcpy(out + used, "\",\"", 3);
            used += 3;
        }
        memcpy(out + used, text, at - text);
        used += at - text;
        at += sizes[0];
        tokens++;
        for (int i = 1; i < parts; i++) {
            piece += sizes[i - 1];
            if (tokens + offsets[i - 1] < 0 || !(at = past_number(at, end, tokens + offsets[i - 1], 10)) ||
                !(at = past(at, end, piece, sizes[i])))
                return -1;
        }
        if ((uint64_t)(at - event) != length || !(at = past(at, end, "\r\n", 2)))
            return -1;
    }
    *out_size = used;
    return count;
}
