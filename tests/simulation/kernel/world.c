/* The seed, the clock, what happens later, the journal, and what was found wrong. */
#include "sim.h"

#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

struct world sim;

enum {
    EVENTS = 16384, JOURNAL = 1 << 20, FOUND = 4096, LOOK = 5 * MICROSECOND, MOST_LOOKS = 20000,
};

static struct event {
    int64_t due;
    uint64_t number;         /* of two at one time the one that was planned first */
    void (*call)(void *);
    void *what;
} events[EVENTS];
static unsigned event_count;
static uint64_t event_number;
static unsigned looks;           /* at the clock, since the last system call */

static char journal[JOURNAL];
static size_t journal_length;
static char found[FOUND];
static size_t found_length;

static const char *const fault_names[] = {
#define X(name) #name,
    FAULTS(X)
#undef X
};

/* -- what the seed decides --------------------------------------------------------------------- */

static uint64_t random_bits(void) {      /* splitmix64 */
    uint64_t z = sim.random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

unsigned sim_pick(unsigned below) {
    return below ? (unsigned)((random_bits() >> 32) * below >> 32) : 0;
}

bool sim_fault(enum fault fault) {
    if (sim.quiet || !sim.level[fault] || sim_pick(1000) >= sim.level[fault])
        return false;
    sim.hits[fault]++;
    return true;
}

/* Mostly next to nothing, at times long; 0: at once. */
int64_t sim_lag(enum fault fault) {
    unsigned kind;
    if (!sim.level[fault])
        return 0;
    kind = sim_pick(100);
    sim.hits[fault]++;
    if (kind < 50)
        return sim_pick(40) * MICROSECOND;
    if (kind < 85 || sim.quiet)
        return sim_pick(1000) * MICROSECOND;
    if (kind < 97)
        return sim_pick(50) * MILLISECOND;
    return sim_pick(900) * MILLISECOND;
}

/* -- the clock, and what happens later --------------------------------------------------------- */

void sim_later(int64_t delay, void (*call)(void *), void *what) {
    if (delay <= 0) {
        call(what);
        return;
    }
    if (event_count == EVENTS) {
        sim_violation("too much is planned");
        return;
    }
    events[event_count++] = (struct event){sim.now + delay, event_number++, call, what};
}

static int first_event(void) {
    int first = -1;
    for (unsigned i = 0; i < event_count; i++)
        if (first < 0 || events[i].due < events[first].due
            || (events[i].due == events[first].due && events[i].number < events[first].number))
            first = (int)i;
    return first;
}

bool sim_is_idle(void) {
    return event_count == 0;
}

/* What is due by now.  Events may plan others, and come back here. */
void sim_run_due(void) {
    int first;
    if (sim.running)
        return;
    sim.running = true;
    while ((first = first_event()) >= 0 && events[first].due <= sim.now) {
        struct event event = events[first];
        events[first] = events[--event_count];
        sim.counts.events++;
        event.call(event.what);
    }
    sim.running = false;
}

/* Set the clock to the next thing that happens, but not beyond ``until``; whether one did. */
bool sim_advance(int64_t until) {
    int first = first_event();
    if (first < 0 || events[first].due > until) {
        if (until > sim.now)
            sim.now = until;
        return false;
    }
    if (events[first].due > sim.now)
        sim.now = events[first].due;
    sim_run_due();
    return true;
}

/* Each system call of the program takes a moment, in which things happen. */
void sim_step(void) {
    looks = 0;
    sim.counts.system_calls++;
    sim.now += MICROSECOND;
    sim_run_due();
}

static void sleep_for(int64_t time) {
    int64_t until = sim.now + time;
    while (sim_advance(until))
        ;
}

/* Where the interpreter's code lies. */
static uintptr_t python_begin, python_end;

static int look_for_python(struct dl_phdr_info *object, size_t size, void *what) {
    uintptr_t known = (uintptr_t)what;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        uintptr_t begin = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
        if (known >= begin && known < begin + object->dlpi_phdr[i].p_memsz) {
            python_begin = begin;
            python_end = begin + object->dlpi_phdr[i].p_memsz;
            return 1;
        }
    }
    return 0;
}

/* The interpreter's own looks take no time: its threads look when they wait for one another,
   nobody knows how often. */
static bool is_python(const void *caller) {
    if (!python_begin)
        dl_iterate_phdr(look_for_python, dlsym(RTLD_DEFAULT, "Py_BytesMain"));
    return (uintptr_t)caller >= python_begin && (uintptr_t)caller < python_end;
}

int clock_gettime(clockid_t which, struct timespec *into) {
    if (!sim.active || (which != CLOCK_MONOTONIC && which != CLOCK_MONOTONIC_COARSE
                        && which != CLOCK_MONOTONIC_RAW && which != CLOCK_BOOTTIME))
        return (int)syscall(SYS_clock_gettime, which, into);
    if (!is_python(__builtin_return_address(0))) {
        sim.now += LOOK;
        if (sim_fault(SLOW))
            sim.now += sim_pick(8) * MILLISECOND;
        if (++looks == MOST_LOOKS)
            sim_violation("the loop is busy, and does not enter the kernel");
        sim_run_due();
    }
    into->tv_sec = sim.now / SECOND;
    into->tv_nsec = sim.now % SECOND;
    return 0;
}

int usleep(useconds_t time) {
    struct timespec real = {time / 1000000, time % 1000000 * 1000};
    if (!sim.active)
        return (int)syscall(SYS_nanosleep, &real, NULL);
    sleep_for(time * 1000LL);
    return 0;
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    if (!sim.active)
        return (int)syscall(SYS_nanosleep, time, left);
    sleep_for(time->tv_sec * SECOND + time->tv_nsec);
    return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                    struct timespec *left) {
    int64_t value = time->tv_sec * SECOND + time->tv_nsec;
    if (!sim.active)
        return syscall(SYS_clock_nanosleep, clock, flags, time, left) < 0 ? errno : 0;
    sleep_for(flags & TIMER_ABSTIME ? value - sim.now : value);
    return 0;
}

/* -- what is told ------------------------------------------------------------------------------ */

void sim_note(const char *format, ...) {
    char line[256];
    va_list arguments;
    int length, start = snprintf(line, sizeof line, "%12.6f ", (double)sim.now / 1e9);
    va_start(arguments, format);
    length = start + vsnprintf(line + start, sizeof line - (size_t)start - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    for (int i = 0; i < length; i++)
        sim.hash = (sim.hash ^ (unsigned char)line[i]) * 0x100000001b3;      /* FNV-1a */
    if (journal_length + (size_t)length > sizeof journal)
        journal_length = 0;      /* the end is what matters */
    memcpy(journal + journal_length, line, (size_t)length);
    journal_length += (size_t)length;
}

void sim_violation(const char *format, ...) {
    char line[256];
    va_list arguments;
    int length;
    va_start(arguments, format);
    length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    sim_note("!! %s", line);
    sim.counts.violations++;
    if (length > (int)sizeof line - 1)
        length = sizeof line - 1;
    if (found_length + (size_t)length + 1 < sizeof found) {
        memcpy(found + found_length, line, (size_t)length);
        found_length += (size_t)length;
        found[found_length++] = '\n';
    }
}

/* -- for the program that drives it ------------------------------------------------------------ */

void sim_begin(uint64_t seed) {
    memset(&sim, 0, sizeof sim);
    event_count = 0;
    event_number = journal_length = found_length = 0;
    sim.random = seed;
    /* Later than the real one: so no thread of the interpreter thinks it has waited enough. */
    sim.now = 100000000 * SECOND;
    sim.hash = 0xcbf29ce484222325;
    /* Half of the faults are away in each seed: so each is alone at times. */
    for (int i = 0; i < FAULT_COUNT; i++) {
        static const unsigned levels[] = {0, 0, 0, 0, 5, 20, 80, 250};
        sim.level[i] = levels[sim_pick(8)];
    }
    /* A ring that cannot be made at all is no test of the rest. */
    if (sim.level[RING_ENOMEM] > 80)
        sim.level[RING_ENOMEM] = 80;
    if (sim.level[WAIT_FUTILE] > 80)
        sim.level[WAIT_FUTILE] = 80;
    if (sim.level[SLOW] > 20)
        sim.level[SLOW] = 20;
    sim.active = true;
}

/* Everything that is planned happens. */
void sim_finish(void) {
    sim.quiet = true;
    while (!sim_is_idle())
        sim_advance(INT64_MAX);
}

void sim_end(void) {
    sim.active = false;
    rings_reset();
    requests_reset();
    calls_reset();
    sockets_reset();
    memory_reset();
    event_count = 0;
}

void sim_set_quiet(int quiet) { sim.quiet = quiet; }
int sim_faults(void) { return FAULT_COUNT; }
const char *sim_fault_name(int fault) { return fault_names[fault]; }
unsigned sim_level(int fault) { return sim.level[fault]; }
void sim_set_level(int fault, unsigned level) { sim.level[fault] = level; }
uint64_t sim_hits(int fault) { return sim.hits[fault]; }
uint64_t sim_hash(void) { return sim.hash; }
uint64_t sim_now(void) { return (uint64_t)sim.now; }
void sim_counts(struct sim_counts *into) { *into = sim.counts; }

const char *sim_journal(size_t *length) { *length = journal_length; return journal; }
const char *sim_found(void) { found[found_length] = 0; return found; }
