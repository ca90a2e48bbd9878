/*
 * The library zstd (third_party/zstd, BSD) as one piece, for swap/zstd.c alone: everything static where upstream lets it be, no
 * allocation, no libc, no assembly, no vector registers; of the match finders only the two fastest.
 */
#ifndef QUIRE_ZSTD_LIB_H
#define QUIRE_ZSTD_LIB_H
#pragma GCC system_header /* upstream's warnings are upstream's */
#include <stddef.h>

#define ZSTD_STATIC_LINKING_ONLY
#define ZSTD_DISABLE_DEPRECATE_WARNINGS 1
#define ZSTDLIB_VISIBLE static __attribute__((unused))
#define ZSTDERRORLIB_VISIBLE static __attribute__((unused))
#define ZSTD_LEGACY_SUPPORT 0
#define ZSTD_TRACE 0
#define ZSTD_DISABLE_ASM 1
#define ZSTD_NO_INTRINSICS 1
#define DYNAMIC_BMI2 0
#define DEBUGLEVEL 0
#define ZSTD_ASAN_DONT_POISON_WORKSPACE 1 /* it is the machine's memory, and others may get it */
#define ZSTD_DECODER_INTERNAL_BUFFER 1024 /* of literals that do not fit behind the page; upstream's 64 KiB are for blocks of 128 */
#define HUF_FORCE_DECOMPRESS_X1 1         /* the other decoder pays for longer blocks, and wants larger tables */
#define ZSTD_EXCLUDE_GREEDY_BLOCK_COMPRESSOR
#define ZSTD_EXCLUDE_LAZY_BLOCK_COMPRESSOR
#define ZSTD_EXCLUDE_LAZY2_BLOCK_COMPRESSOR
#define ZSTD_EXCLUDE_BTLAZY2_BLOCK_COMPRESSOR
#define ZSTD_EXCLUDE_BTOPT_BLOCK_COMPRESSOR
#define ZSTD_EXCLUDE_BTULTRA_BLOCK_COMPRESSOR

#include "../third_party/zstd/common/entropy_common.c"
#include "../third_party/zstd/common/error_private.c"
#include "../third_party/zstd/common/fse_decompress.c"
#include "../third_party/zstd/common/zstd_common.c"
#include "../third_party/zstd/compress/fse_compress.c"
#include "../third_party/zstd/compress/hist.c"
#include "../third_party/zstd/compress/huf_compress.c"
#include "../third_party/zstd/compress/zstd_compress_literals.c"
#include "../third_party/zstd/compress/zstd_compress_sequences.c"
#include "../third_party/zstd/compress/zstd_compress_superblock.c"
#include "../third_party/zstd/compress/zstd_preSplit.c"
#include "../third_party/zstd/compress/zstd_compress.c"
#include "../third_party/zstd/compress/zstd_double_fast.c"
#include "../third_party/zstd/compress/zstd_fast.c"
#include "../third_party/zstd/compress/zstd_ldm.c"
#include "../third_party/zstd/decompress/huf_decompress.c"
#include "../third_party/zstd/decompress/zstd_ddict.c"
#include "../third_party/zstd/decompress/zstd_decompress.c"
#include "../third_party/zstd/decompress/zstd_decompress_block.c"

#undef MIN /* Quire has its own */
#undef MAX

#endif
