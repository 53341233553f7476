/*
 * A plugin without devices, that asks its key-value store as XLA's GPU client does: on threads of its own, with argument structs
 * whose unused bytes are rubbish, many gets at once, and later while the caller's main thread waits in it. What it found it
 * tells as its platform's version. Written from the layout of pjrt_c_api.h; nothing of that file is here.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int code; char text[512]; } Error;
typedef Error *(*CallbackError)(int code, const char *message, size_t size);
typedef struct { size_t size; void *next; const char *key; size_t key_size; int timeout_ms; CallbackError *error; void *user;
  char *value; size_t value_size; void (*deleter)(char *); } GetArgs;
typedef struct { size_t size; void *next; const char *key; size_t key_size; CallbackError *error; void *user; char *value;
  size_t value_size; void (*deleter)(char *); } TryArgs;
typedef struct { size_t size; void *next; const char *key; size_t key_size; const char *value; size_t value_size;
  CallbackError *error; void *user; } PutArgs;
typedef struct { size_t size; void *next; const char *name; size_t name_size; int type; const char *value; size_t value_size; } Option;
typedef struct { size_t size; void *next; const Option *options; size_t count; Error *(*get)(GetArgs *); void *get_user;
  Error *(*put)(PutArgs *); void *put_user; void *client; Error *(*try_get)(TryArgs *); void *try_user; } CreateArgs;
typedef struct { CreateArgs store; long nodes, node; char said[1 << 16]; } Client;

static Error *fail(int code, const char *message, size_t size) {
  Error *error = calloc(1, sizeof *error);
  error->code = code;
  snprintf(error->text, sizeof error->text, "%.*s", (int)size, message);
  return error;
}
static CallbackError make = fail;

static Error *get(Client *c, const char *key, int timeout_ms, char **value, size_t *size) {
  GetArgs a;
  memset(&a, 0xaa, sizeof a);
  a.key = key; a.key_size = strlen(key); a.timeout_ms = timeout_ms; a.error = &make; a.user = c->store.get_user;
  Error *error = c->store.get(&a);
  if (error) return error;
  *value = malloc(a.value_size + 1);
  memcpy(*value, a.value, a.value_size);
  (*value)[*size = a.value_size] = 0;
  a.deleter(a.value);
  return NULL;
}
static Error *try_get(Client *c, const char *key, char **value, size_t *size) {
  TryArgs a;
  memset(&a, 0xaa, sizeof a);
  a.key = key; a.key_size = strlen(key); a.error = &make; a.user = c->store.try_user;
  Error *error = c->store.try_get(&a);
  if (error) return error;
  *value = malloc(a.value_size + 1);
  memcpy(*value, a.value, a.value_size);
  (*value)[*size = a.value_size] = 0;
  a.deleter(a.value);
  return NULL;
}
static Error *put(Client *c, const char *key, const char *value, size_t size) {
  PutArgs a;
  memset(&a, 0xaa, sizeof a);
  a.key = key; a.key_size = strlen(key); a.value = value; a.value_size = size; a.error = &make; a.user = c->store.put_user;
  return c->store.put(&a);
}

typedef struct { Client *client; char key[128]; char *value; size_t size; Error *error; int wait_ms; } Job;
static void *get_job(void *p) {
  Job *job = p;
  job->error = get(job->client, job->key, 20000, &job->value, &job->size);
  return NULL;
}
static void *put_job(void *p) {
  Job *job = p;
  usleep(1000 * job->wait_ms);
  job->error = put(job->client, job->key, job->value, job->size);
  return NULL;
}

/* Every node puts its own devices, node 0 gets all on as many threads, puts them together, and all get that. */
static Error *exchange(Client *c) {
  char key[64], text[64], *value;
  size_t size;
  snprintf(key, sizeof key, "local_topology/fake/%ld", c->node);
  /* a value with a zero byte in it */
  int length = snprintf(text, sizeof text, "%ld", c->node) + 1;
  memcpy(text + length, "gpu", 3);
  Error *error = put(c, key, text, length + 3);
  if (error) return error;
  if (c->node == 0) {
    pthread_t threads[16];
    Job jobs[16];
    char all[1024];
    size_t at = 0;
    for (long i = 0; i < c->nodes; i++) {
      memset(&jobs[i], 0, sizeof jobs[i]);
      jobs[i].client = c;
      snprintf(jobs[i].key, sizeof jobs[i].key, "local_topology/fake/%ld", i);
      pthread_create(&threads[i], NULL, get_job, &jobs[i]);
    }
    for (long i = 0; i < c->nodes; i++) {
      pthread_join(threads[i], NULL);
      if (jobs[i].error) { error = jobs[i].error; continue; }
      for (size_t b = 0; b < jobs[i].size; b++) all[at++] = jobs[i].value[b] ? jobs[i].value[b] : '|';
      all[at++] = ';';
    }
    if (error || (error = put(c, "global_topology/fake", all, at))) return error;
  }
  if ((error = get(c, "global_topology/fake", 20000, &value, &size))) return error;
  snprintf(c->said, sizeof c->said, "%s", value);
  return NULL;
}

static Error *scenario(Client *c, const char *name) {
  char *value, key[128];
  size_t size;
  Error *error;
  snprintf(key, sizeof key, "%.32s/%ld", name, c->node);
  if (!strcmp(name, "exchange")) return exchange(c);
  if (!strcmp(name, "timeout")) return get(c, "nobody puts this", 200, &value, &size);
  if (!strcmp(name, "twice")) {
    if ((error = put(c, key, "a", 1))) return error;
    return put(c, key, "b", 1);
  }
  if (!strcmp(name, "try")) {
    if (!(error = try_get(c, key, &value, &size))) return fail(13, "found", 5);
    int code = error->code;
    if ((error = put(c, key, "", 0)) || (error = try_get(c, key, &value, &size))) return error;
    snprintf(c->said, sizeof c->said, "%d, then %zu bytes", code, size);
    return NULL;
  }
  if (!strcmp(name, "large")) {
    size_t bytes = 8 << 20;
    unsigned char *sent = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) sent[i] = (unsigned char)(i * 31 + (i >> 8));
    if (c->node == 0 && (error = put(c, "large", (char *)sent, bytes))) return error;
    if ((error = get(c, "large", 20000, &value, &size))) return error;
    snprintf(c->said, sizeof c->said, "%zu bytes, %s", size, size == bytes && !memcmp(sent, value, bytes) ? "equal" : "other");
    return NULL;
  }
  if (!strcmp(name, "own")) {
    /* a get that waits for what another thread of this process puts */
    pthread_t thread;
    Job job = {.client = c, .value = "mine", .size = 4, .wait_ms = 200};
    strcpy(job.key, key);
    pthread_create(&thread, NULL, put_job, &job);
    error = get(c, key, 20000, &value, &size);
    pthread_join(thread, NULL);
    if (error || (error = job.error)) return error;
    snprintf(c->said, sizeof c->said, "%s", value);
    return NULL;
  }
  if (!strcmp(name, "many")) {
    /* keys of the other node, in the other order than it puts them */
    enum { threads = 40 };
    pthread_t ids[threads];
    Job jobs[threads];
    long sum = 0;
    for (int i = 0; i < threads; i++) {
      memset(&jobs[i], 0, sizeof jobs[i]);
      jobs[i].client = c;
      snprintf(jobs[i].key, sizeof jobs[i].key, "many/%ld/%d", 1 - c->node, threads - 1 - i);
      pthread_create(&ids[i], NULL, get_job, &jobs[i]);
    }
    for (int i = 0; i < threads; i++) {
      char text[16];
      snprintf(key, sizeof key, "many/%ld/%d", c->node, i);
      if ((error = put(c, key, text, snprintf(text, sizeof text, "%d", i)))) return error;
    }
    for (int i = 0; i < threads; i++) {
      pthread_join(ids[i], NULL);
      if (jobs[i].error) return jobs[i].error;
      sum += atoi(jobs[i].value);
    }
    snprintf(c->said, sizeof c->said, "%ld", sum);
    return NULL;
  }
  if (!strcmp(name, "killed")) {
    if (c->node == 1) raise(SIGKILL);
    return get(c, "nobody puts this", 60000, &value, &size);
  }
  if (!strcmp(name, "cardless")) return c->node == 0 ? exchange(c) : fail(9, "No visible cards", 16);
  return fail(3, name, strlen(name));
}

typedef struct { size_t size; void *next; Error *error; } ErrorArgs;
static void *error_destroy(ErrorArgs *a) { free(a->error); return NULL; }
typedef struct { size_t size; void *next; Error *error; const char *text; size_t text_size; } MessageArgs;
static void *error_message(MessageArgs *a) { a->text = a->error->text; a->text_size = strlen(a->text); return NULL; }
typedef struct { size_t size; void *next; Error *error; int code; } CodeArgs;
static void *error_code(CodeArgs *a) { a->code = a->error->code; return NULL; }
static void *initialize(void *a) { (void)a; return NULL; }

static void *create(CreateArgs *a) {
  if (a->size < sizeof *a) return fail(3, "the arguments are too short", 27);
  Client *c = calloc(1, sizeof *c);
  char name[64] = "exchange";
  c->store = *a;
  c->nodes = 1;
  for (size_t i = 0; i < a->count; i++) {
    const Option *o = &a->options[i];
    if (!strncmp(o->name, "num_nodes", o->name_size)) c->nodes = (long)o->value;
    else if (!strncmp(o->name, "node_id", o->name_size)) c->node = (long)o->value;
    else if (!strncmp(o->name, "scenario", o->name_size)) snprintf(name, sizeof name, "%.*s", (int)o->value_size, o->value);
  }
  Error *error = a->get && a->put && a->try_get ? scenario(c, name) : fail(13, "there is no store", 17);
  if (error) { free(c); return error; }
  a->client = c;
  return NULL;
}
typedef struct { size_t size; void *next; Client *client; } ClientArgs;
static void *destroy(ClientArgs *a) { free(a->client); return NULL; }
typedef struct { size_t size; void *next; Client *client; const char *text; size_t text_size; } TextArgs;
static void *platform(TextArgs *a) { a->text = "fake"; a->text_size = 4; return NULL; }
static void *platform_version(TextArgs *a) { a->text = a->client->said; a->text_size = strlen(a->text); return NULL; }
typedef struct { size_t size; void *next; Client *client; int index; } IndexArgs;
static void *process_index(IndexArgs *a) { a->index = (int)a->client->node; return NULL; }
static void *devices_of[64];
typedef struct { size_t size; void *next; Client *client; void **list; size_t count; } ListArgs;
static void *devices(ListArgs *a) { a->list = devices_of; a->count = 2 * a->client->nodes; return NULL; }
static void *own_devices(ListArgs *a) { a->list = devices_of; a->count = 2; return NULL; }
/* As collectives are set up by the first run: the caller waits here while a thread asks the store. */
static void *compile(ClientArgs *a) {
  Client *c = a->client;
  if (c->node == 0) return put(c, "nccl/0", "id", 2);
  pthread_t thread;
  Job job = {.client = c, .key = "nccl/0"};
  pthread_create(&thread, NULL, get_job, &job);
  pthread_join(thread, NULL);
  return job.error || (job.size == 2 && !memcmp(job.value, "id", 2)) ? job.error : fail(13, "another value", 13);
}

static struct {
  size_t size; void *next; size_t version_size; void *version_next; int major, minor; void *functions[21];
} api = {sizeof api, NULL, 24, NULL, 0, 116,
  {error_destroy, error_message, error_code, initialize, NULL, NULL, NULL, NULL, NULL, NULL, create, destroy, platform,
    process_index, platform_version, devices, own_devices, NULL, NULL, NULL, compile}};

const void *GetPjrtApi(void) { return &api; }
