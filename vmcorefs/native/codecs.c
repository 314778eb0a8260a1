/*
 * The libraries that compress pages, by dlopen(3): each is needed only for dumps of its codec, and
 * building against them would make all of them a condition for any.
 *
 * Levels and formats are those of vmcorefs/save/codecs.py, so that both ways write the same bytes.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "codecs.h"

enum { DEFLATE_LEVEL = 2, ZSTD_LEVEL = 1 };

/* LZO1X_1_MEM_COMPRESS: 2^14 entries as wide as a pointer (lzo1x.h) */
#define LZO_MEMORY (16384 * sizeof(void *))

/* libdeflate.h */
enum { DEFLATE_ALLOC, DEFLATE_PACK, DEFLATE_FREE };
static const char *const deflate_names[] = {
	"libdeflate_alloc_compressor",
	"libdeflate_zlib_compress",
	"libdeflate_free_compressor",
	NULL,
};

static void *deflate_start(const struct codec *codec)
{
	return ((void *(*)(int))codec->found[DEFLATE_ALLOC])(DEFLATE_LEVEL);
}

static void deflate_stop(const struct codec *codec, void *state)
{
	((void (*)(void *))codec->found[DEFLATE_FREE])(state);
}

static size_t deflate_pack(const struct codec *codec, void *state, const uint8_t *page, size_t size,
			   uint8_t *out, size_t room)
{
	return ((size_t(*)(void *, const void *, size_t, void *, size_t))codec->found[DEFLATE_PACK])(
		state, page, size, out, room);
}

/* lzo1x.h; lzo_init only compares the sizes of types with those of its header */
enum { LZO_PACK };
static const char *const lzo_names[] = { "lzo1x_1_compress", NULL };

static void *memory_start(const struct codec *codec)
{
	(void)codec;
	return malloc(LZO_MEMORY);
}

static void memory_stop(const struct codec *codec, void *state)
{
	(void)codec;
	free(state);
}

static size_t lzo_pack(const struct codec *codec, void *state, const uint8_t *page, size_t size,
		       uint8_t *out, size_t room)
{
	size_t length = room;
	int failed = ((int (*)(const uint8_t *, size_t, uint8_t *, size_t *, void *))
			      codec->found[LZO_PACK])(page, size, out, &length, state);

	return failed ? 0 : length;
}

/* snappy-c.h */
enum { SNAPPY_PACK };
static const char *const snappy_names[] = { "snappy_compress", NULL };

static size_t snappy_pack(const struct codec *codec, void *state, const uint8_t *page, size_t size,
			  uint8_t *out, size_t room)
{
	size_t length = room;
	int failed = ((int (*)(const uint8_t *, size_t, uint8_t *, size_t *))
			      codec->found[SNAPPY_PACK])(page, size, out, &length);

	(void)state;
	return failed ? 0 : length;
}

/* zstd.h */
enum { ZSTD_IS_ERROR, ZSTD_NEW_C, ZSTD_PACK, ZSTD_FREE_C };
static const char *const zstd_names[] = {
	"ZSTD_isError", "ZSTD_createCCtx", "ZSTD_compressCCtx", "ZSTD_freeCCtx", NULL,
};

static void *zstd_start(const struct codec *codec)
{
	return ((void *(*)(void))codec->found[ZSTD_NEW_C])();
}

static void zstd_stop(const struct codec *codec, void *state)
{
	((size_t(*)(void *))codec->found[ZSTD_FREE_C])(state);
}

static int zstd_failed(const struct codec *codec, size_t result)
{
	return ((unsigned(*)(size_t))codec->found[ZSTD_IS_ERROR])(result) != 0;
}

static size_t zstd_pack(const struct codec *codec, void *state, const uint8_t *page, size_t size,
			uint8_t *out, size_t room)
{
	size_t length = ((size_t(*)(void *, void *, size_t, const void *, size_t, int))
				 codec->found[ZSTD_PACK])(state, out, room, page, size, ZSTD_LEVEL);

	return zstd_failed(codec, length) ? 0 : length;
}

static struct codec codecs[] = {
	{ 0x01, "libdeflate.so.0", deflate_names, NULL, { NULL }, deflate_start, deflate_stop,
	  deflate_pack },
	{ 0x02, "liblzo2.so.2", lzo_names, NULL, { NULL }, memory_start, memory_stop, lzo_pack },
	{ 0x04, "libsnappy.so.1", snappy_names, NULL, { NULL }, memory_start, memory_stop, snappy_pack },
	{ 0x20, "libzstd.so.1", zstd_names, NULL, { NULL }, zstd_start, zstd_stop, zstd_pack },
};

static int load(struct codec *codec, const char **why)
{
	void *handle = dlopen(codec->library, RTLD_LAZY | RTLD_LOCAL);

	if (!handle) {
		*why = dlerror();
		return -1;
	}
	for (size_t number = 0; codec->names[number]; number++) {
		codec->found[number] = dlsym(handle, codec->names[number]);
		if (!codec->found[number]) {
			*why = codec->names[number]; /* what it lacks */
			dlclose(handle);
			return -1;
		}
	}
	codec->handle = handle;
	return 0;
}

const struct codec *codec_find(int flag, const char **why)
{
	for (size_t number = 0; number < sizeof(codecs) / sizeof(*codecs); number++) {
		struct codec *codec = &codecs[number];

		if (codec->flag == flag)
			return codec->handle || !load(codec, why) ? codec : NULL;
	}
	*why = "no such codec";
	return NULL;
}
