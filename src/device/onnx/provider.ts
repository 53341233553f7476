/**
 * The providers of onnxruntime that programs are written for, and what the writer chooses for each: where one has no kernel
 * for an operator, or one that is wrong, the operation is written with others. Measured with version 1.30 (docs/log.md).
 */

export type OnnxProvider = "cpu" | "webgpu"

export interface Choices {
  /** FusedMatMul reads a transposed operand in place; `apart` is Gemm for matrices, else Transpose and MatMul. */
  readonly transposedProducts: "fused" | "apart"
  /** Sin and Cos as operators, or by a polynomial: WebGPU's promise an absolute error of 2^-11 only. */
  readonly sinCos: "operator" | "polynomial"
  readonly logSoftmax: "operator" | "definition"
  /** Whether SimplifiedLayerNormalization gives its inverse deviation; WebGPU's kernel leaves it as it found it. */
  readonly rmsNormDeviation: "operator" | "definition"
  /** RotaryEmbedding with a row of the tables for each position wants i64 positions. */
  readonly rotaryRows: "operator" | "definition"
  /** Sign, Or, Xor, equality of booleans and the test for infinity in log1p. */
  readonly signs: "operator" | "composed"
  /** ArgMax gives i64; `composed` is the first place that has the maximum, in i32. */
  readonly argMax: "operator" | "composed"
  /** The integers that ramps and indices are made of. */
  readonly indices: "i64" | "i32"
  /** ConstantOfShape, or one zero that is expanded. */
  readonly zeros: "operator" | "expanded"
  /** How a barrier learns how many elements there are: the CPU's Size would fetch them first. */
  readonly counts: "Size" | "Shape"
  /** ScatterND with several indices a tuple; WebGPU's kernel reads beyond the tuples. */
  readonly scatterTuples: boolean
  /** Whether one operator may read and write the same memory; WebGPU refuses it, but where the kernel knows of it. */
  readonly elementwiseInPlace: boolean
  /** Operators that are left to the CPU although there is a kernel. WebGPU's Pow does not compile for vectors of four. */
  readonly onCpu: ReadonlyArray<string>
  /**
   * Loop, or its body once for each trip: WebGPU has no Loop, so the CPU would drive it and copy its state in each trip, and
   * results were seen to be wrong.
   */
  readonly loops: "operator" | "unrolled"
}

const choices: Readonly<Record<OnnxProvider, Choices>> = {
  cpu: {
    transposedProducts: "fused",
    sinCos: "operator",
    logSoftmax: "operator",
    rmsNormDeviation: "operator",
    rotaryRows: "operator",
    signs: "operator",
    argMax: "operator",
    indices: "i64",
    zeros: "operator",
    counts: "Size",
    scatterTuples: true,
    elementwiseInPlace: true,
    onCpu: [],
    loops: "operator"
  },
  webgpu: {
    transposedProducts: "apart",
    sinCos: "polynomial",
    logSoftmax: "definition",
    rmsNormDeviation: "definition",
    rotaryRows: "definition",
    signs: "composed",
    argMax: "composed",
    indices: "i32",
    zeros: "expanded",
    counts: "Shape",
    scatterTuples: false,
    elementwiseInPlace: false,
    onCpu: ["Pow"],
    loops: "unrolled"
  }
}

export const choicesOf = (provider: OnnxProvider = "cpu"): Choices => choices[provider]

/** Trips up to which a loop is unrolled. */
export const maxUnrolled = 256
