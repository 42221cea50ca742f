// Preloaded into a process: while the file named by FAULT_FLAG exists, calls of one kind fail on files whose path ends
// with a suffix. The flag file says which: "fsync -wal 5" or "write jobs.db 30" (kind, suffix, errno).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd, const char *kind) {
  const char *flag = getenv("FAULT_FLAG");
  if (!flag) return 0;
  int before = errno;
  FILE *file = fopen(flag, "re");
  if (!file) { errno = before; return 0; }
  char calls[16], suffix[64], link[64], path[4096];
  int error = 0;
  int read = fscanf(file, "%15s %63s %d", calls, suffix, &error);
  fclose(file);
  errno = before;
  if (read != 3 || strcmp(calls, kind)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) { errno = before; return 0; }
  path[length] = 0;
  size_t end = strlen(suffix);
  if ((size_t)length < end || strcmp(path + length - end, suffix)) return 0;
  errno = error;
  return 1;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  REAL(pwrite64);
  return fails(fd, "write") ? -1 : real(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  REAL(pwrite);
  return fails(fd, "write") ? -1 : real(fd, data, size, at);
}
int fsync(int fd) {
  REAL(fsync);
  return fails(fd, "fsync") ? -1 : real(fd);
}
int fdatasync(int fd) {
  REAL(fdatasync);
  return fails(fd, "fsync") ? -1 : real(fd);
}
