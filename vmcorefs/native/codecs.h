/* Libraries that compress pages, found when they are first asked for; see codecs.c. */
#ifndef VMCOREFS_CODECS_H
#define VMCOREFS_CODECS_H

#include <stddef.h>
#include <stdint.h>

/* A way to compress pages, of the library that has it. */
struct codec {
	int flag; /* in a page's descriptor; core/formats/kdump/descriptors.py */
	const char *library;
	const char *const *names; /* of the functions that are used, in the order of `found` */
	void *handle; /* of the loaded library; NULL before */
	void *found[4];
	/* what one thread needs for some pages; NULL if there is no memory */
	void *(*start)(const struct codec *codec);
	void (*stop)(const struct codec *codec, void *state);
	/* bytes written to out; 0 if that failed. out has room for whatever the library may write */
	size_t (*pack)(const struct codec *codec, void *state, const uint8_t *page, size_t size,
		       uint8_t *out, size_t room);
};

/*
 * The codec with that flag, its library loaded; or NULL, with the reason in *why: a name that the
 * system gave, or "no such codec". Called with the interpreter's lock.
 */
const struct codec *codec_find(int flag, const char **why);

#endif
