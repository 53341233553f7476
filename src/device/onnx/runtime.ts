/**
 * The runtime of this process: one library, one environment, one thread pool and one arena for all sessions. A pool of
 * its own per session would leave the threads of one spinning while another works.
 */

import { allocate, pointerArray, stringArray } from "../ffi.ts"
import { arenaAllocator, defaultMemory, logFatal, type Ort, openOrt } from "./api.ts"
import { locateLibrary } from "./library.ts"

export interface Runtime {
  readonly ort: Ort
  readonly env: bigint
  readonly memoryInfo: bigint
  /** Threads of the pool that sessions share; a session that wants another number makes its own pool. */
  readonly pooledThreads: number
  /** Options of a run after which the arena gives back what nothing uses. */
  readonly shrink: bigint
}

/** The library cannot be had; the message says why. */
export class LibraryAbsent extends Error {}

let current: Runtime | undefined

/** The process's runtime; the first caller fixes the size of the shared thread pool. Throws LibraryAbsent. */
export const openRuntime = (threads: number): Runtime => {
  if (current !== undefined) return current
  const located = locateLibrary()
  if ("missing" in located) throw new LibraryAbsent(located.missing)
  let ort: Ort
  try {
    ort = openOrt(located.path)
  } catch (error) {
    throw new LibraryAbsent(`${located.path} cannot be opened: ${error instanceof Error ? error.message : error}`)
  }
  const threading = ort.createThreadingOptions()
  ort.setGlobalIntraOpNumThreads(threading, threads)
  ort.setGlobalInterOpNumThreads(threading, 1)
  const env = ort.createEnvWithGlobalThreadPools(logFatal, "overtone", threading)
  ort.releaseThreadingOptions(threading)
  const memoryInfo = ort.createCpuMemoryInfo(arenaAllocator, defaultMemory)
  // arena_extend_strategy 1: blocks as large as asked for, instead of the next power of two
  const keys = stringArray(["arena_extend_strategy"])
  const values = pointerArray([1n])
  const arena = ort.createArenaCfgV2(keys.pointers.address, values.address, 1)
  ort.createAndRegisterAllocator(env, memoryInfo, arena)
  ort.releaseArenaCfg(arena)
  const shrink = ort.createRunOptions()
  ort.addRunConfigEntry(shrink, "memory.enable_memory_arena_shrinkage", "cpu:0")
  current = { ort, env, memoryInfo, pooledThreads: threads, shrink }
  return current
}

/** A C array of int64 dimensions. */
export const dimensions = (shape: ReadonlyArray<number>) => {
  const block = allocate(shape.length * 8)
  new BigInt64Array(block.buffer, block.byteOffset, shape.length).set(shape.map(BigInt))
  return block
}
