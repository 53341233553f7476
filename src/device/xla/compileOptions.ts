/**
 * XLA's CompileOptionsProto in bytes (xla/pjrt/proto/compile_options.proto), as far as it is set here. The numbers of
 * replicas and partitions are always written: without them the plugin aborts the process.
 */

export interface CompileOptions {
  /** Devices that one program is laid out over; default 1. */
  readonly partitions?: number
  /** Flags of XLA's DebugOptions by name. */
  readonly flags?: Readonly<Record<string, boolean | number | string>>
}

/** Flags of every program: no more precision than was asked for, so that fusing changes no bits of 16-bit programs. */
export const standardFlags: Readonly<Record<string, boolean | number | string>> = { xla_allow_excess_precision: false }

/**
 * Flags by which the CUDA plugin takes nothing whose sums depend on the order in which threads come: scatter sorts its updates
 * first, and cuDNN's derivative of attention and products use their deterministic kernels.
 */
export const deterministicFlags: Readonly<Record<string, boolean>> = { xla_gpu_exclude_nondeterministic_ops: true }

/** Flags by which the CPU plugin compiles in a third of the time programs that run up to three times as long. */
export const quickFlags: Readonly<Record<string, boolean | number>> = {
  xla_backend_optimization_level: 0,
  xla_cpu_use_fusion_emitters: false
}

const varint = (value: number): ReadonlyArray<number> =>
  value < 128 ? [value] : [(value & 127) | 128, ...varint(Math.floor(value / 128))]
const number = (field: number, value: number) => [...varint(field * 8), ...varint(value)]
const bytes = (field: number, value: ReadonlyArray<number>) => [
  ...varint(field * 8 + 2),
  ...varint(value.length),
  ...value
]
const text = (field: number, value: string) => bytes(field, [...Buffer.from(value, "utf8")])

/** OptionOverrideProto: 1 string, 2 bool, 3 int. */
const override = (value: boolean | number | string) =>
  typeof value === "string" ? text(1, value) : typeof value === "boolean" ? number(2, value ? 1 : 0) : number(3, value)

/** The message. Throws a RangeError for a number of partitions that is none. */
export const compileOptions = ({ partitions = 1, flags = {} }: CompileOptions = {}): Uint8Array => {
  if (!Number.isInteger(partitions) || partitions < 1) throw new RangeError(`${partitions} is no number of partitions`)
  const devices = Array.from({ length: partitions }, (_, i) => bytes(3, bytes(1, varint(i)))).flat()
  const build = [
    ...number(4, 1),
    ...number(5, partitions),
    ...(partitions > 1 ? number(6, 1) : []),
    ...bytes(9, [...number(1, 1), ...number(2, partitions), ...devices]),
    ...(partitions > 1 ? number(19, 1) : [])
  ]
  const overrides = Object.entries({ ...standardFlags, ...flags })
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, value]) => bytes(7, [...text(1, name), ...bytes(2, override(value))]))
  return Uint8Array.from([...bytes(3, build), ...overrides])
}
