/* How a stand-in library hears what to do: from the file that the environment variable ORDERS names.
 *
 *   fail FUNCTION CODE | hang FUNCTION | crash FUNCTION | noise LINES, by every call
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char orders[8192];

/* Read the orders, once a call. */
static void listen(void)
{
    const char *path = getenv(ORDERS);
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = file ? fread(orders, 1, sizeof orders - 1, file) : 0;
    orders[length] = 0;
    if (file)
        fclose(file);
}

static const char *find(const char *word, const char *name, char *value)
{
    size_t length = strlen(word);
    for (const char *line = orders; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        char second[64] = "", third[64] = "";
        if (strncmp(line, word, length) || line[length] != ' ')
            continue;
        if (sscanf(line + length, "%63s %63s", second, third) < 1 || (name && strcmp(second, name)))
            continue;
        return strcpy(value, name ? third : second);
    }
    return NULL;
}

static unsigned long long number(const char *word, const char *name, unsigned long long otherwise, int base)
{
    char value[64];
    return find(word, name, value) ? strtoull(value, NULL, base) : otherwise;
}

/* What every call begins with: print, hang, crash or fail as told. */
static int enter(const char *function)
{
    char value[64];
    listen();
    for (unsigned long long n = number("noise", NULL, 0, 10); n; n--)
        printf("synthetic noise of %s\n", function);
    fflush(stdout);
    if (find("hang", function, value))
        for (;;)
            pause();
    if (find("crash", function, value))
        raise(SIGSEGV);
    return (int)number("fail", function, 0, 10);
}

#define ENTER                                                                                                \
    do {                                                                                                     \
        int code = enter(__func__);                                                                          \
        if (code)                                                                                            \
            return code;                                                                                     \
    } while (0)
