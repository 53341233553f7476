/**
 * A device runs programs. This is the whole of what the rest of the project knows of one: load a program, hold named
 * tensors between runs, run with feeds. Which library does it, and where, is the layer's affair.
 *
 * `run` blocks the thread while the device works: a task runs in a process of its own, whose supervisor watches it.
 */

import { Context, type Effect, type Scope } from "effect"
import type { Program } from "../tensor/Program.ts"
import type { Dtype } from "../tensor/Tensor.ts"
import type { DeviceError } from "./DeviceError.ts"
import type { HostTensor, TensorSpec, TypedArray } from "./HostTensor.ts"
import type { MicroBatch } from "./microBatch.ts"
import type { NumericClass } from "./numericClass.ts"

/** What a run had under it; recorded with every attempt. */
export interface DeviceInfo {
  /** `cpu`, `webgpu`, `xla:cuda`, ... */
  readonly provider: string
  /** The hardware, as it names itself. */
  readonly adapter: string
  readonly threads: number
  /** The library and its version. */
  readonly runtime: string
  /** Nodes of all loaded programs that did not run on the adapter. */
  readonly fallbackNodes: number
  /** Which they are, where the device can have any. */
  readonly fallbacks?: ReadonlyArray<Fallback>
  readonly numericClass: NumericClass
  /** Steps of decoding that one run should do: more than 1 where a loop in a program costs less than as many runs. Default 1. */
  readonly stepsPerRun?: number
  /**
   * Whether a tensor that lies on the device is set to zero for less by a program that makes the zeros there than by `write`,
   * which sends as many from the host. Either way it is zero, whatever it was. Default false.
   */
  readonly zerosByProgram?: boolean
  /**
   * The most bytes that a training program may spend on weights of layers, or their gradients, laid on one another to have a model's
   * layers as a loop, which is compiled in less time. Default 0: layers stand one after the other.
   */
  readonly loopBytes?: number
  /** How large a micro-batch is best; default `usualBatch`. */
  readonly batch?: MicroBatch
  /** Where a task runs on several: how they are arranged (`data=2,model=2`). */
  readonly mesh?: string
}

/** A node that ran on the CPU although another device was asked for. */
export interface Fallback {
  readonly program: string
  /** After the operation of the program: `linear/dot/MatMul#12`. */
  readonly node: string
  readonly operator: string
}

/** A tensor that lives on the device until its scope closes. */
export interface DeviceTensor {
  readonly _tag: "DeviceTensor"
  readonly name: string
  readonly dtype: Dtype
  readonly shape: ReadonlyArray<number>
  readonly byteLength: number
}

/** A program that is ready to run, until its scope closes. */
export interface Loaded {
  readonly _tag: "Loaded"
  readonly program: Program
  /** Milliseconds that loading took; 0 where a loaded copy was there. */
  readonly loadMs: number
  /** Outputs that a tensor which is also their input receives without a copy. */
  readonly inPlace: ReadonlyArray<string>
}

/** Elements that were asked for, and those that were computed: as many, and what fills them up to the sizes compiled for. */
export interface Filled {
  readonly wanted: number
  readonly computed: number
}

/** The share of them that only fills up; 0 of none. */
export const paddingOf = ({ computed, wanted }: Filled): number => (computed === 0 ? 0 : 1 - wanted / computed)

export interface DeviceStats {
  readonly runs: number
  /** Milliseconds inside the library's own run call. */
  readonly runMs: number
  /** Milliseconds of loading programs. */
  readonly loadMs: number
  /** The most bytes that this device's tensors and intermediate values took at once. */
  readonly peakBytes: number
  /** What they take now. */
  readonly bytes: number
  /** Programs that were compiled, where the device compiles them for sizes, and loaded from its cache instead. */
  readonly compiled?: number
  readonly reloaded?: number
  /**
   * Where several devices share programs: bytes that one of them got by collectives, all runs together; of loops that may end
   * early as if they had not.
   */
  readonly collectiveBytes?: number
  /** Where programs are compiled for sizes: elements fed with varying sizes, tokens and what goes with them. */
  readonly tokenElements?: Filled
  /** The same of the keys and values that generation keeps, whose sizes have coarser steps. */
  readonly cacheElements?: Filled
  /** The shares of both that only fill up. */
  readonly paddingShare?: number
  readonly cachePaddingShare?: number
  /** Bytes that went to the device's own memory and came from it, where it has one: tensors, feeds and outputs. */
  readonly copiedIn?: number
  readonly copiedOut?: number
}

/** Inputs by name. A host tensor is copied to the device; a device tensor is used where it lies. */
export type Feeds = Readonly<Record<string, HostTensor | DeviceTensor>>

export interface LoadOptions {
  /**
   * Inputs that are known now. They become part of the loaded program, which the library may then rearrange (2-3 times
   * faster decoding): they must not change, nor be given up, while the program is loaded. Not for weights in training.
   */
  readonly constants?: Readonly<Record<string, DeviceTensor>>
}

export class Device extends Context.Service<
  Device,
  {
    readonly info: DeviceInfo
    /** Readies a program; an equal program that is loaded already is shared. */
    load(program: Program, options?: LoadOptions): Effect.Effect<Loaded, DeviceError, Scope.Scope>
    /** A tensor with the given elements, or zeros. */
    tensor(spec: TensorSpec, init?: TypedArray | "zeros"): Effect.Effect<DeviceTensor, DeviceError, Scope.Scope>
    /** Replaces a tensor's elements. */
    write(tensor: DeviceTensor, data: TypedArray): Effect.Effect<void, DeviceError>
    /** A copy of a tensor's elements. */
    read(tensor: DeviceTensor): Effect.Effect<HostTensor, DeviceError>
    /**
     * Runs a program. Outputs named in `into` are left in those tensors; the others are returned. A tensor may be an
     * input and the place of an output at once: the input's old elements are read before they are overwritten.
     */
    run(
      loaded: Loaded,
      feeds: Feeds,
      into?: Readonly<Record<string, DeviceTensor>>
    ): Effect.Effect<Readonly<Record<string, HostTensor>>, DeviceError>
    readonly stats: Effect.Effect<DeviceStats>
    /**
     * Where programs are compiled for sizes: the size that is computed for a dimension of a program that has `size` elements.
     * Missing where every size is computed as it is.
     */
    readonly sizeFor?: (name: string, size: number) => number
  }
>()("overtone/device/Device") {}
