/**
 * The C API of onnxruntime, as far as this project uses it: `OrtGetApiBase()->GetApi(version)` returns a struct of
 * function pointers whose order never changes (onnxruntime_c_api.h: "the ordering of these fields MUST not change after
 * that version has shipped"); the numbers below are positions in it. Every call throws `OrtFailure` on a bad status.
 */

import {
  type CType,
  functionAt,
  libraryFunction,
  loadLibrary,
  outArray,
  outParameter,
  type Pointer,
  pointersAt,
  stringAt
} from "../ffi.ts"

/** The API version asked for: the one that `onnxruntime-node` 1.30 was built with. */
const apiVersion = 30
/** Entries of the struct that this file reads (version 24 and older; the struct only grows). */
const apiEntries = 413

/** Element types by their number in ONNX's TensorProto.DataType, which the C API shares. */
export const elementTypes = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, bool: 9, f16: 10, f64: 11, bf16: 16 } as const

/** A refused call: onnxruntime's error code (OrtErrorCode) and message. */
export class OrtFailure extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

type Status = Pointer
const P: CType = "void *"
const S: CType = "const char *"
const path: CType = process.platform === "win32" ? "const char16_t *" : "const char *"

/** Opens the library at `file` and decodes the functions used. Throws when it is no onnxruntime of a fitting version. */
export const openOrt = (file: string) => {
  const base = libraryFunction<[], bigint>(loadLibrary(file), "OrtGetApiBase", P, [])()
  const [getApiAddress, getVersionAddress] = pointersAt(base, 2)
  const version = functionAt<[], string>(getVersionAddress!, S, [])()
  const api = functionAt<[number], Pointer>(getApiAddress!, P, ["uint32_t"])(apiVersion)
  if (api === null) throw new OrtFailure(0, `onnxruntime ${version} at ${file} is older than API version ${apiVersion}`)
  const table = pointersAt(api, apiEntries)

  const plain = <A extends ReadonlyArray<unknown>, R>(index: number, result: CType, parameters: ReadonlyArray<CType>) =>
    functionAt<A, R>(table[index]!, result, parameters)
  const errorCode = plain<[Pointer], number>(1, "int", [P])
  const errorMessage = plain<[Pointer], string>(2, S, [P])
  const releaseStatus = plain<[Pointer], void>(93, "void", [P])
  const check = (status: Status): void => {
    if (status === null) return
    const failure = new OrtFailure(errorCode(status), errorMessage(status))
    releaseStatus(status)
    throw failure
  }
  /** A function that returns a status and nothing else. */
  const act = <A extends ReadonlyArray<unknown>>(index: number, parameters: ReadonlyArray<CType>) => {
    const call = plain<A, Status>(index, P, parameters)
    return (...args: A): void => check(call(...args))
  }
  /** A function whose last parameter is an out pointer, which becomes the result. */
  const make = <A extends ReadonlyArray<unknown>>(index: number, parameters: ReadonlyArray<CType>) => {
    const call = plain<[...A, bigint], Status>(index, P, [...parameters, P])
    return (...args: A): bigint => outParameter((cell) => check(call(...args, cell)))
  }
  /** A function that leaves a C array of pointers, which the library owns, and its length. */
  const list = <A extends ReadonlyArray<unknown>>(index: number, parameters: ReadonlyArray<CType>) => {
    const call = plain<[...A, bigint, bigint], Status>(index, P, [...parameters, P, P])
    return (...args: A): BigUint64Array => outArray((first, count) => check(call(...args, first, count)))
  }
  /** A function of one object that leaves a string, which the library owns. */
  const text = (index: number) => {
    const call = make<[object: bigint]>(index, [P])
    return (object: bigint): string => stringAt(call(object))
  }
  const release = (index: number) => plain<[bigint], void>(index, "void", [P])
  const run = plain<[bigint, Pointer, bigint, bigint, number, bigint, number, bigint], Status>(9, P, [
    P,
    P,
    P,
    P,
    "size_t",
    P,
    "size_t",
    P
  ])

  return {
    version,
    buildInfo: plain<[], string>(254, S, [])(),
    createEnvWithGlobalThreadPools: make<[level: number, logId: string, options: bigint]>(119, ["int", S, P]),
    createThreadingOptions: make<[]>(121, []),
    setGlobalIntraOpNumThreads: act<[options: bigint, threads: number]>(147, [P, "int"]),
    setGlobalInterOpNumThreads: act<[options: bigint, threads: number]>(148, [P, "int"]),
    setGlobalSpinControl: act<[options: bigint, spin: number]>(149, [P, "int"]),
    createAndRegisterAllocator: act<[env: bigint, memoryInfo: bigint, arena: bigint]>(144, [P, P, P]),
    createArenaCfgV2: make<[keys: bigint, values: bigint, count: number]>(164, [P, P, "size_t"]),

    createSessionOptions: make<[]>(10, []),
    setOptimizedModelFilePath: act<[options: bigint, file: string]>(11, [P, path]),
    enableProfiling: act<[options: bigint, prefix: string]>(14, [P, path]),
    setGraphOptimizationLevel: act<[options: bigint, level: number]>(23, [P, "int"]),
    setIntraOpNumThreads: act<[options: bigint, threads: number]>(24, [P, "int"]),
    setInterOpNumThreads: act<[options: bigint, threads: number]>(25, [P, "int"]),
    disablePerSessionThreads: act<[options: bigint]>(120, [P]),
    addSessionConfigEntry: act<[options: bigint, key: string, value: string]>(130, [P, S, S]),
    addExternalInitializers: act<[options: bigint, names: bigint, values: bigint, count: number]>(210, [
      P,
      P,
      P,
      "size_t"
    ]),

    addInitializer: act<[options: bigint, name: string, value: bigint]>(150, [P, S, P]),

    createPrepackedWeightsContainer: make<[]>(166, []),
    /** As below, with products' rearranged operands shared through a container. */
    createSessionSharing: make<[env: bigint, model: bigint, bytes: number, options: bigint, container: bigint]>(169, [
      P,
      P,
      "size_t",
      P,
      P
    ]),
    createSessionFromArray: make<[env: bigint, model: bigint, bytes: number, options: bigint]>(8, [P, P, "size_t", P]),
    /** Runs a session over prepared argument blocks; blocks the thread. */
    run: (session: bigint, options: Pointer, inputs: Arguments, outputs: Arguments): void =>
      check(
        run(session, options, inputs.names, inputs.values, inputs.count, outputs.names, outputs.count, outputs.values)
      ),

    createTensor: make<[memoryInfo: bigint, data: bigint, bytes: number, dims: bigint, rank: number, type: number]>(
      49,
      [P, P, "size_t", P, "size_t", "int"]
    ),
    createCpuMemoryInfo: make<[allocatorType: number, memoryType: number]>(69, ["int", "int"]),
    createAllocator: make<[session: bigint, memoryInfo: bigint]>(131, [P, P]),
    allocatorStats: make<[allocator: bigint]>(319, [P]),
    keyValue: plain<[pairs: bigint, key: string], string | null>(297, S, [P, S]),

    createMemoryInfo: make<[name: string, allocatorType: number, device: number, memoryType: number]>(68, [
      S,
      "int",
      "int",
      "int"
    ]),
    /** A tensor in memory that an allocator gives. */
    createTensorIn: make<[allocator: bigint, dims: bigint, rank: number, type: number]>(48, [P, P, "size_t", "int"]),
    /** Copies tensors' elements between the host and a provider's device, or on it. */
    copyTensors: act<[env: bigint, from: bigint, to: bigint, stream: null, count: number]>(386, [P, P, P, P, "size_t"]),
    /** Adds a provider by name, with C arrays of its options; it comes before the CPU. */
    appendProvider: act<[options: bigint, name: string, keys: bigint, values: bigint, count: number]>(216, [
      P,
      S,
      P,
      P,
      "size_t"
    ]),

    /** The subgraphs that providers took, where the session was asked to record them. */
    assignedSubgraphs: list<[session: bigint]>(407, [P]),
    subgraphProvider: text(408),
    subgraphNodes: list<[subgraph: bigint]>(409, [P]),
    nodeName: text(410),
    nodeOperator: text(412),

    createRunOptions: make<[]>(39, []),
    addRunConfigEntry: act<[options: bigint, key: string, value: string]>(165, [P, S, S]),

    releaseSession: release(95),
    releaseValue: release(96),
    releaseSessionOptions: release(100),
    releaseThreadingOptions: release(122),
    releaseAllocator: release(132),
    releaseArenaCfg: release(157),
    releasePrepackedWeightsContainer: release(167),
    releaseKeyValuePairs: release(300)
  }
}

/** One side of a run call: C arrays of names and of values, `count` long. */
export interface Arguments {
  readonly names: bigint
  readonly values: bigint
  readonly count: number
}

export type Ort = ReturnType<typeof openOrt>

/** OrtLoggingLevel: nothing but what ends the process is logged; errors come back as messages. */
export const logFatal = 4
/** GraphOptimizationLevel. */
export const optimizationLevels = { none: 0, basic: 1, extended: 2, all: 99 } as const
/** OrtAllocatorType.OrtArenaAllocator and OrtMemType.OrtMemTypeDefault. */
export const arenaAllocator = 1
export const defaultMemory = 0
/** OrtAllocatorType.OrtDeviceAllocator. */
export const deviceAllocator = 0
