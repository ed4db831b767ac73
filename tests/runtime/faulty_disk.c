/* A disk to be afraid of, for tests: what a process does below one folder is written down, fails, or ends the process.
 *
 *     cc -shared -fPIC -o faulty_disk.so faulty_disk.c && LD_PRELOAD=./faulty_disk.so python ...
 *
 * It stands before the C library's calls, so it sees SQLite's writes as well as Python's. What goes past them, such as
 * fwrite's own system calls, is not seen: faulty_disk.py compares what was written down with what is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, SYNC, CREATE, MAKE_FOLDER, RENAME, UNLINK, MARK };
/* What happens at the call that was armed: the process ends before it, or in the middle of its write; the call fails,
 * once or from then on; it writes half, and fails from then on. */
enum { NOTHING, KILL, KILL_HALF, FAIL_ONCE, FAIL, FAIL_HALF };

struct record {
    uint32_t kind, path_size, other_size, data_size;
    uint64_t inode, offset; /* offset of a write, size of a truncation */
};

static char folder[PATH_MAX];
static size_t folder_size; /* 0: nothing is watched */
static int log_file = -1;
static int armed = NOTHING, armed_errno;
static long armed_at, calls;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* Files with a shared, writable mapping: their bytes change without a call, so they are read whole at every sync. */
static struct { uint64_t inode; int descriptor; } mapped[32];
static int n_mapped;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t real_write(int descriptor, const void *data, size_t size) {
    REAL(write);
    return real(descriptor, data, size);
}

static ssize_t real_pwrite(int descriptor, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    return real(descriptor, data, size, offset);
}

static int below_folder(const char *path) {
    return folder_size && !strncmp(path, folder, folder_size) && (path[folder_size] == '/' || !path[folder_size]);
}

/* The whole path of what a call names; 0 if it is none of ours. */
static int path_of(int at, const char *path, char out[PATH_MAX]) {
    if (!folder_size) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t size = readlink(link, base, sizeof base - 1);
        if (size < 0) return 0;
        base[size] = 0;
        if (size + strlen(path) + 2 > PATH_MAX) return 0;
        memcpy(out, base, (size_t)size);
        out[size] = '/';
        strcpy(out + size + 1, path);
    }
    return below_folder(out);
}

/* The inode of an open file or folder; 0 if it is none of ours. */
static uint64_t inode_of(int descriptor) {
    char link[64], path[PATH_MAX];
    struct stat64 found;
    if (!folder_size) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below_folder(path) && !fstat64(descriptor, &found) ? found.st_ino : 0;
}

static void note(uint32_t kind, uint64_t inode, uint64_t offset, const char *path, const char *other,
                 const void *data, size_t data_size) {
    if (log_file < 0) return;
    struct record record = {kind, (uint32_t)strlen(path), (uint32_t)strlen(other), (uint32_t)data_size, inode, offset};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)path, record.path_size},
                            {(void *)other, record.other_size}, {(void *)data, data_size}};
    if (writev(log_file, parts, 4) != (ssize_t)(sizeof record + record.path_size + record.other_size + data_size)) {
        perror("faulty_disk: its log");
        abort();
    }
}

static void note_mapped(void) {
    for (int i = 0; i < n_mapped; i++) {
        struct stat64 found;
        if (log_file < 0 || fstat64(mapped[i].descriptor, &found)) continue;
        char *data = malloc((size_t)found.st_size + 1);
        ssize_t size = pread64(mapped[i].descriptor, data, (size_t)found.st_size, 0);
        if (size > 0) note(WRITE, mapped[i].inode, 0, "", "", data, (size_t)size);
        free(data);
    }
}

/* Called before a change: 1 if it has to fail; *half is how much of a write still happens. */
static int fails(size_t *half) {
    calls++;
    if (armed == NOTHING || calls < armed_at) return 0;
    if (armed == KILL || (armed == KILL_HALF && !half)) kill(getpid(), SIGKILL);
    if (armed == KILL_HALF) return 1; /* the write itself ends the process */
    if (armed == FAIL_ONCE && calls > armed_at) return 0;
    if (half && !(armed == FAIL_HALF && calls == armed_at)) *half = 0;
    return 1;
}

#define BEGIN pthread_mutex_lock(&mutex)
#define END(value) do { int saved = errno; pthread_mutex_unlock(&mutex); errno = saved; return value; } while (0)
#define FAIL_WITH_ERRNO do { errno = armed_errno; END(-1); } while (0)

/* --- for the tests --- */

void faulty_disk_watch(const char *where, const char *log) {
    snprintf(folder, sizeof folder, "%s", where);
    folder_size = strlen(folder);
    log_file = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
}

/* Count the calls that change something from 0 again; let the at-th one, from 1 on, go wrong. */
void faulty_disk_arm(int how, long at, int error) {
    armed = how, armed_at = at, armed_errno = error, calls = 0;
}

long faulty_disk_calls(void) { return calls; }

void faulty_disk_mark(const char *text) {
    BEGIN;
    note(MARK, 0, 0, "", "", text, strlen(text));
    pthread_mutex_unlock(&mutex);
}

/* --- calls that change a file --- */

static ssize_t faulty_write(int descriptor, const void *data, size_t size, off64_t offset) {
    uint64_t inode = inode_of(descriptor);
    int placed = offset >= 0;
    if (!inode) return placed ? real_pwrite(descriptor, data, size, offset) : real_write(descriptor, data, size);
    BEGIN;
    size_t half = size / 2;
    int failing = fails(&half);
    size_t wanted = failing ? half : size;
    if (!placed) offset = lseek64(descriptor, 0, fcntl(descriptor, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = wanted ? real_pwrite(descriptor, data, wanted, offset) : 0;
    if (done > 0) {
        if (!placed) lseek64(descriptor, offset + done, SEEK_SET);
        note(WRITE, inode, (uint64_t)offset, "", "", data, (size_t)done);
    }
    if (failing && armed == KILL_HALF) kill(getpid(), SIGKILL);
    if (failing && !wanted) FAIL_WITH_ERRNO;
    END(done);
}

ssize_t write(int descriptor, const void *data, size_t size) { return faulty_write(descriptor, data, size, -1); }
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    return faulty_write(descriptor, data, size, offset);
}
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    return faulty_write(descriptor, data, size, offset);
}

/* glibc's names differ in the type of the size alone, which is 64 bits here. */
int ftruncate64(int descriptor, off64_t size) {
    REAL(ftruncate64);
    uint64_t inode = inode_of(descriptor);
    if (!inode) return real(descriptor, size);
    BEGIN;
    struct stat64 found;
    int shrinks = !fstat64(descriptor, &found) && size <= found.st_size && armed_errno == ENOSPC;
    if (fails(NULL) && !shrinks) FAIL_WITH_ERRNO;
    int result = real(descriptor, size);
    if (!result) note(TRUNCATE, inode, (uint64_t)size, "", "", "", 0);
    END(result);
}
int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

static int faulty_sync(int descriptor, int (*real)(int)) {
    uint64_t inode = inode_of(descriptor);
    if (!inode) return real(descriptor);
    BEGIN;
    if (fails(NULL)) FAIL_WITH_ERRNO;
    note_mapped();
    int result = real(descriptor);
    if (!result) note(SYNC, inode, 0, "", "", "", 0);
    END(result);
}
int fsync(int descriptor) { REAL(fsync); return faulty_sync(descriptor, real); }
int fdatasync(int descriptor) { REAL(fdatasync); return faulty_sync(descriptor, real); }

int msync(void *address, size_t size, int flags) {
    REAL(msync);
    if (!n_mapped) return real(address, size, flags);
    BEGIN;
    note_mapped();
    int result = real(address, size, flags);
    for (int i = 0; i < n_mapped && !result && (flags & MS_SYNC); i++) note(SYNC, mapped[i].inode, 0, "", "", "", 0);
    END(result);
}

void *mmap64(void *address, size_t size, int protection, int flags, int descriptor, off64_t offset) {
    REAL(mmap64);
    uint64_t inode = descriptor >= 0 && flags & MAP_SHARED && protection & PROT_WRITE ? inode_of(descriptor) : 0;
    char link[64], path[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    /* SQLite's shared memory is rebuilt after a crash. */
    if (inode && readlink(link, path, sizeof path - 1) > 0 && !strstr(path, "-shm") && n_mapped < 32) {
        mapped[n_mapped].inode = inode;
        mapped[n_mapped++].descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 512);
    }
    return real(address, size, protection, flags, descriptor, offset);
}
void *mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t offset) {
    return mmap64(address, size, protection, flags, descriptor, offset);
}

/* --- calls that change a name --- */

static int faulty_open(int at, const char *path, int flags, mode_t mode) {
    REAL(openat64);
    char whole[PATH_MAX];
    struct stat64 found;
    if (!(flags & (O_CREAT | O_TRUNC)) || !path_of(at, path, whole)) return real(at, path, flags, mode);
    BEGIN;
    int is_new = lstat64(whole, &found) != 0;
    int shortens = !is_new && flags & O_TRUNC && found.st_size;
    if (!is_new && !shortens) END(real(at, path, flags, mode));
    if (fails(NULL) && !(shortens && armed_errno == ENOSPC)) FAIL_WITH_ERRNO;
    int descriptor = real(at, path, flags, mode);
    if (descriptor >= 0 && !fstat64(descriptor, &found))
        note(is_new ? CREATE : TRUNCATE, found.st_ino, 0, is_new ? whole : "", "", "", 0);
    END(descriptor);
}

#define OPEN(name, ...) \
    int name(__VA_ARGS__, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return faulty_open(AT, path, flags, mode); \
    }
#define AT AT_FDCWD
OPEN(open, const char *path)
OPEN(open64, const char *path)
#undef AT
#define AT at
OPEN(openat, int at, const char *path)
OPEN(openat64, int at, const char *path)

int mkdirat(int at, const char *path, mode_t mode) {
    REAL(mkdirat);
    char whole[PATH_MAX];
    struct stat64 found;
    if (!path_of(at, path, whole) || !lstat64(whole, &found)) return real(at, path, mode);
    BEGIN;
    if (fails(NULL)) FAIL_WITH_ERRNO;
    int result = real(at, path, mode);
    if (!result && !lstat64(whole, &found)) note(MAKE_FOLDER, found.st_ino, 0, whole, "", "", 0);
    END(result);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* A full disk still renames and unlinks. */
static int fails_but_for_space(void) { return fails(NULL) && armed_errno != ENOSPC; }

int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(renameat);
    char source[PATH_MAX], target[PATH_MAX];
    if (!path_of(from_at, from, source) | !path_of(to_at, to, target)) return real(from_at, from, to_at, to);
    BEGIN;
    if (fails_but_for_space()) FAIL_WITH_ERRNO;
    note_mapped();
    int result = real(from_at, from, to_at, to);
    if (!result) note(RENAME, 0, 0, source, target, "", 0);
    END(result);
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    char whole[PATH_MAX];
    struct stat64 found;
    if (!path_of(at, path, whole) || lstat64(whole, &found)) return real(at, path, flags);
    BEGIN;
    if (fails_but_for_space()) FAIL_WITH_ERRNO;
    int result = real(at, path, flags);
    if (!result) note(UNLINK, found.st_ino, 0, whole, "", "", 0);
    END(result);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
