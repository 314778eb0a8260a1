/*
 * What is done to every page of a dump, for a batch of them in one call and without the
 * interpreter's lock. Used by vmcorefs/native/pages.py, and as it says; everything that is passed
 * in is checked here, and a wrong one is ValueError.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codecs.h"

enum { MAX_PAGE_SIZE = 1 << 16, PIECE = 1 << 16 };

static int is_zero(const uint8_t *page, size_t size)
{
	uint64_t first;

	memcpy(&first, page, sizeof first);
	return !first && !memcmp(page, page + sizeof first, size - sizeof first);
}

/* 0 if pages may have that size, else -1 with an exception */
static int check_page_size(Py_ssize_t size)
{
	if (size >= 16 && size <= MAX_PAGE_SIZE)
		return 0;
	PyErr_Format(PyExc_ValueError, "pages of %zd bytes", size);
	return -1;
}

/* pages in `pages`, or -1 with an exception */
static Py_ssize_t count_pages(const Py_buffer *pages, Py_ssize_t size)
{
	if (check_page_size(size))
		return -1;
	if (!(pages->len % size))
		return pages->len / size;
	PyErr_Format(PyExc_ValueError, "%zd bytes are no pages of %zd", pages->len, size);
	return -1;
}

/* 0 if `buffer` has `count` elements of `width` bytes, else -1 with an exception */
static int check_length(const Py_buffer *buffer, Py_ssize_t count, size_t width, const char *name)
{
	if (buffer->len % (Py_ssize_t)width || buffer->len / (Py_ssize_t)width != count) {
		PyErr_Format(PyExc_ValueError, "%s: %zd bytes, expected %zd elements of %zd", name,
			     buffer->len, count, (Py_ssize_t)width);
		return -1;
	}
	return 0;
}

static const struct codec *find_codec(int flag)
{
	const char *why = "";
	const struct codec *codec = codec_find(flag, &why);

	if (!codec)
		PyErr_Format(PyExc_ImportError, "%s", why);
	return codec;
}

/* library(flag) -> path */
static PyObject *library(PyObject *self, PyObject *args)
{
	const struct codec *codec;
	struct link_map *map = NULL;
	int flag;

	(void)self;
	if (!PyArg_ParseTuple(args, "i", &flag))
		return NULL;
	codec = find_codec(flag);
	if (!codec)
		return NULL;
	if (dlinfo(codec->handle, RTLD_DI_LINKMAP, &map))
		return PyErr_Format(PyExc_OSError, "%s: %s", codec->library, dlerror());
	return PyUnicode_DecodeFSDefault(map->l_name);
}

/* find_zeros(pages, page_size, zero) */
static PyObject *find_zeros(PyObject *self, PyObject *args)
{
	Py_buffer pages, zero;
	Py_ssize_t size, count;
	PyObject *result = NULL;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*nw*", &pages, &size, &zero))
		return NULL;
	count = count_pages(&pages, size);
	if (count >= 0 && !check_length(&zero, count, 1, "zero")) {
		const uint8_t *page = pages.buf;
		uint8_t *out = zero.buf;

		Py_BEGIN_ALLOW_THREADS
		for (Py_ssize_t row = 0; row < count; row++)
			out[row] = (uint8_t)is_zero(page + row * size, (size_t)size);
		Py_END_ALLOW_THREADS
		result = Py_NewRef(Py_None);
	}
	PyBuffer_Release(&pages);
	PyBuffer_Release(&zero);
	return result;
}

/* what a library may write in excess of a page: a sixth of it for snappy, less for the others */
static Py_ssize_t excess(Py_ssize_t size)
{
	return size / 4 + 256;
}

/* 0 if `out` has room for so many pages, however they compress, else -1 with an exception */
static int check_room(const Py_buffer *out, Py_ssize_t count, Py_ssize_t size, int flag)
{
	if (count <= (out->len - (flag ? excess(size) : 0)) / size)
		return 0;
	PyErr_Format(PyExc_ValueError, "out: %zd bytes are too few", out->len);
	return -1;
}

/* Where pages are compressed to. */
struct packer {
	const struct codec *codec; /* NULL: they are moved together */
	void *state;
	size_t page_size;
	uint8_t *out;
	size_t at, room;
};

/* 0 if it is ready, else -1 with an exception */
static int packer_start(struct packer *packer, int flag, Py_ssize_t size, const Py_buffer *out)
{
	*packer = (struct packer){ NULL, NULL, (size_t)size, out->buf, 0, (size_t)out->len };
	if (!flag)
		return 0;
	packer->codec = find_codec(flag);
	if (!packer->codec)
		return -1;
	packer->state = packer->codec->start(packer->codec);
	if (packer->state)
		return 0;
	PyErr_NoMemory();
	return -1;
}

static void packer_stop(struct packer *packer)
{
	if (packer->codec)
		packer->codec->stop(packer->codec, packer->state);
}

/* the page's bytes in out; it may lie there, but not before packer->at */
static uint32_t pack_page(struct packer *packer, const uint8_t *page)
{
	const struct codec *codec = packer->codec;
	uint8_t *to = packer->out + packer->at;
	size_t size = packer->page_size, length = 0;

	if (codec)
		length = codec->pack(codec, packer->state, page, size, to,
				     packer->room - packer->at);
	if (!length || length >= size) {
		length = size;
		if (to != page)
			memmove(to, page, size);
	}
	packer->at += length;
	return (uint32_t)length;
}

/*
 * pack(flag, pages, page_size, stored, out, sizes) -> bytes in out
 *
 * With flag 0, out may be pages itself.
 */
static PyObject *pack(PyObject *self, PyObject *args)
{
	Py_buffer pages, stored, out, sizes;
	struct packer packer;
	PyObject *result = NULL;
	Py_ssize_t size, count;
	int flag;

	(void)self;
	if (!PyArg_ParseTuple(args, "iy*ny*w*w*", &flag, &pages, &size, &stored, &out, &sizes))
		return NULL;
	count = count_pages(&pages, size);
	if (count >= 0 && !check_length(&stored, count, 1, "stored") &&
	    !check_length(&sizes, count, sizeof(uint32_t), "sizes") &&
	    !check_room(&out, count, size, flag) && !packer_start(&packer, flag, size, &out)) {
		const uint8_t *page = pages.buf, *wanted = stored.buf;
		uint32_t *length = sizes.buf;

		Py_BEGIN_ALLOW_THREADS
		for (Py_ssize_t row = 0; row < count; row++)
			length[row] = wanted[row] ? pack_page(&packer, page + row * size) : 0;
		packer_stop(&packer);
		Py_END_ALLOW_THREADS
		result = PyLong_FromSize_t(packer.at);
	}
	PyBuffer_Release(&pages);
	PyBuffer_Release(&stored);
	PyBuffer_Release(&out);
	PyBuffer_Release(&sizes);
	return result;
}

/* whether `size` bytes could be read */
static int read_whole(int fd, uint8_t *out, size_t size, int64_t offset)
{
	while (size) {
		ssize_t got = pread(fd, out, size, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return 0;
		out += got;
		size -= (size_t)got;
		offset += got;
	}
	return 1;
}

/*
 * read_and_pack(flag, descriptor, offsets, counts, page_size, out, sizes) -> bytes in out, or -1
 *
 * Reads runs of pages of a file, a piece at a time, so that they lie in the CPU's cache when they
 * are compressed. Of pages of zeros the size is 0. -1 if a page cannot be read.
 */
static Py_ssize_t pack_run(struct packer *packer, int fd, int64_t offset, int64_t count,
			   uint8_t *scratch, uint32_t *sizes)
{
	size_t size = packer->page_size;

	while (count) {
		int64_t step = count < PIECE / (int64_t)size ? count : PIECE / (int64_t)size;
		uint8_t *pages = packer->codec ? scratch : packer->out + packer->at;

		if (!read_whole(fd, pages, (size_t)step * size, offset))
			return -1;
		for (int64_t row = 0; row < step; row++, pages += size)
			*sizes++ = is_zero(pages, size) ? 0 : pack_page(packer, pages);
		offset += step * (int64_t)size;
		count -= step;
	}
	return 0;
}

static Py_ssize_t pack_runs(struct packer *packer, int fd, const int64_t *offsets,
			    const int64_t *counts, Py_ssize_t runs, uint8_t *scratch,
			    uint32_t *sizes)
{
	for (Py_ssize_t run = 0; run < runs; run++) {
		if (pack_run(packer, fd, offsets[run], counts[run], scratch, sizes))
			return -1;
		sizes += counts[run];
	}
	return (Py_ssize_t)packer->at;
}

/* 0 if the counts are those of `total` pages, else -1 with an exception */
static int check_counts(const int64_t *counts, Py_ssize_t runs, int64_t total)
{
	for (Py_ssize_t run = 0; run < runs && total >= 0; run++)
		total = counts[run] < 0 || counts[run] > total ? -1 : total - counts[run];
	if (!total)
		return 0;
	PyErr_SetString(PyExc_ValueError, "counts: not those of the sizes");
	return -1;
}

static PyObject *read_and_pack(PyObject *self, PyObject *args)
{
	Py_buffer offsets, counts, out, sizes;
	struct packer packer;
	PyObject *result = NULL;
	Py_ssize_t size, runs, total, done;
	uint8_t *scratch;
	int flag, fd;

	(void)self;
	if (!PyArg_ParseTuple(args, "iiy*y*nw*w*", &flag, &fd, &offsets, &counts, &size, &out,
			      &sizes))
		return NULL;
	runs = offsets.len / (Py_ssize_t)sizeof(int64_t);
	total = sizes.len / (Py_ssize_t)sizeof(uint32_t);
	scratch = malloc(PIECE);
	if (!scratch)
		PyErr_NoMemory();
	if (scratch && !check_page_size(size) &&
	    !check_length(&offsets, runs, sizeof(int64_t), "offsets") &&
	    !check_length(&counts, runs, sizeof(int64_t), "counts") &&
	    !check_length(&sizes, total, sizeof(uint32_t), "sizes") &&
	    !check_counts(counts.buf, runs, total) && !check_room(&out, total, size, flag) &&
	    !packer_start(&packer, flag, size, &out)) {
		Py_BEGIN_ALLOW_THREADS
		done = pack_runs(&packer, fd, offsets.buf, counts.buf, runs, scratch, sizes.buf);
		packer_stop(&packer);
		Py_END_ALLOW_THREADS
		result = PyLong_FromSsize_t(done);
	}
	free(scratch);
	PyBuffer_Release(&offsets);
	PyBuffer_Release(&counts);
	PyBuffer_Release(&out);
	PyBuffer_Release(&sizes);
	return result;
}

static PyMethodDef methods[] = {
	{ "find_zeros", find_zeros, METH_VARARGS, NULL },
	{ "library", library, METH_VARARGS, NULL },
	{ "pack", pack, METH_VARARGS, NULL },
	{ "read_and_pack", read_and_pack, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyModuleDef_Slot slots[] = { { 0, NULL } };

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT, "_pages", NULL, 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__pages(void)
{
	return PyModuleDef_Init(&module);
}
