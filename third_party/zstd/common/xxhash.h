/*
 * Quire's own, not upstream's: no XXH64.  Frames are written without a checksum of zstd's, since a swap slot has one of the
 * page itself; damage may make a frame claim to have one, and then whether it fits says nothing.
 */
#ifndef QUIRE_NO_XXHASH
#define QUIRE_NO_XXHASH

typedef struct { char none; } XXH64_state_t;
#define XXH64_reset(state, seed) ((void)(state), (void)(seed))
#define XXH64_update(state, src, n) ((void)(state), (void)(src), (void)(n))
#define XXH64_digest(state) ((void)(state), 0u)
#define XXH64(src, n, seed) ((void)(src), (void)(n), (void)(seed), 0u)

#endif
