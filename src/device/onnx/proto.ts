/**
 * ONNX models as bytes: the messages of onnx.proto3 that this project writes (field numbers as in onnx/onnx.proto3,
 * IR version 10), encoded and decoded by protobufjs. Large weights never pass through here: they are handed to the
 * runtime as memory (see `session.ts`), so a model stays far below protobuf's 2 GB.
 */

import protobuf from "protobufjs/light.js"

const field = (type: string, id: number) => ({ type, id })
const repeated = (type: string, id: number, packed = true) => ({
  rule: "repeated",
  type,
  id,
  ...(packed ? {} : { options: { packed: false } })
})

const root = protobuf.Root.fromJSON({
  nested: {
    AttributeProto: {
      fields: {
        name: field("string", 1),
        f: field("float", 2),
        i: field("int64", 3),
        s: field("bytes", 4),
        t: field("TensorProto", 5),
        g: field("GraphProto", 6),
        floats: repeated("float", 7),
        ints: repeated("int64", 8),
        strings: repeated("bytes", 9),
        type: field("int32", 20)
      }
    },
    NodeProto: {
      fields: {
        input: repeated("string", 1),
        output: repeated("string", 2),
        name: field("string", 3),
        opType: field("string", 4),
        attribute: repeated("AttributeProto", 5),
        domain: field("string", 7)
      }
    },
    TensorProto: {
      fields: {
        dims: repeated("int64", 1),
        dataType: field("int32", 2),
        name: field("string", 8),
        rawData: field("bytes", 9),
        externalData: repeated("StringStringEntryProto", 13),
        dataLocation: field("int32", 14)
      }
    },
    StringStringEntryProto: { fields: { key: field("string", 1), value: field("string", 2) } },
    DimensionProto: { fields: { dimValue: field("int64", 1), dimParam: field("string", 2) } },
    TensorShapeProto: { fields: { dim: repeated("DimensionProto", 1) } },
    TensorTypeProto: { fields: { elemType: field("int32", 1), shape: field("TensorShapeProto", 2) } },
    TypeProto: { fields: { tensorType: field("TensorTypeProto", 1) } },
    ValueInfoProto: { fields: { name: field("string", 1), type: field("TypeProto", 2) } },
    GraphProto: {
      fields: {
        node: repeated("NodeProto", 1),
        name: field("string", 2),
        initializer: repeated("TensorProto", 5),
        input: repeated("ValueInfoProto", 11),
        output: repeated("ValueInfoProto", 12)
      }
    },
    OperatorSetIdProto: { fields: { domain: field("string", 1), version: field("int64", 2) } },
    ModelProto: {
      fields: {
        irVersion: field("int64", 1),
        producerName: field("string", 2),
        graph: field("GraphProto", 7),
        opsetImport: repeated("OperatorSetIdProto", 8)
      }
    }
  }
})
const Model = root.lookupType("ModelProto")

/** AttributeProto.AttributeType. */
const attributeTypes = { float: 1, int: 2, string: 3, tensor: 4, graph: 5, ints: 7 } as const

/** A tensor in a model: its bytes, or (external) a promise that the caller hands its memory to the runtime. */
export interface TensorProto {
  readonly name?: string
  readonly dims: ReadonlyArray<number>
  readonly dataType: number
  readonly rawData?: Uint8Array
  readonly externalData?: ReadonlyArray<{ readonly key: string; readonly value: string }>
  readonly dataLocation?: number
}

export interface AttributeProto {
  readonly name: string
  readonly type: number
  readonly f?: number
  readonly i?: number
  readonly s?: Uint8Array
  readonly t?: TensorProto
  readonly g?: GraphProto
  readonly ints?: ReadonlyArray<number>
}

export interface NodeProto {
  readonly input: ReadonlyArray<string>
  readonly output: ReadonlyArray<string>
  readonly name: string
  readonly opType: string
  readonly attribute: ReadonlyArray<AttributeProto>
  readonly domain?: string
}

export interface ValueInfoProto {
  readonly name: string
  readonly type: {
    readonly tensorType: {
      readonly elemType: number
      readonly shape: { readonly dim: ReadonlyArray<{ readonly dimValue: number } | { readonly dimParam: string }> }
    }
  }
}

export interface GraphProto {
  readonly name: string
  readonly node: ReadonlyArray<NodeProto>
  readonly initializer: ReadonlyArray<TensorProto>
  readonly input: ReadonlyArray<ValueInfoProto>
  readonly output: ReadonlyArray<ValueInfoProto>
}

/** An attribute's value as the writer spells it; a bare number is an integer, a real one is written `{ float }`. */
export type AttributeValue =
  | number
  | string
  | ReadonlyArray<number>
  | { readonly float: number }
  | { readonly graph: GraphProto }
  | { readonly tensor: TensorProto }

/** Spells an attribute as a message. */
export const attribute = (name: string, value: AttributeValue): AttributeProto => {
  if (typeof value === "number") return { name, i: value, type: attributeTypes.int }
  if (typeof value === "string") return { name, s: Buffer.from(value, "utf8"), type: attributeTypes.string }
  if ("float" in value) return { name, f: value.float, type: attributeTypes.float }
  if ("graph" in value) return { name, g: value.graph, type: attributeTypes.graph }
  if ("tensor" in value) return { name, t: value.tensor, type: attributeTypes.tensor }
  return { name, ints: value, type: attributeTypes.ints }
}

/** A value's name, element type and dimensions; a string dimension is symbolic. */
export const valueInfo = (name: string, elemType: number, dims: ReadonlyArray<number | string>): ValueInfoProto => ({
  name,
  type: {
    tensorType: {
      elemType,
      shape: { dim: dims.map((d) => (typeof d === "number" ? { dimValue: d } : { dimParam: d })) }
    }
  }
})

/** Operator sets that every model imports. */
export const opset = 21

/** A ModelProto in bytes. */
export const encodeModel = (graph: GraphProto): Uint8Array =>
  Model.encode({
    irVersion: 10,
    producerName: "overtone",
    graph,
    opsetImport: [
      { domain: "", version: opset },
      { domain: "com.microsoft", version: 1 }
    ]
  }).finish()

/** The graph of a ModelProto in bytes (integers as numbers): how tests count what the optimiser left. */
export const decodeGraph = (bytes: Uint8Array): GraphProto => {
  const model = Model.toObject(Model.decode(bytes), { longs: Number, arrays: true, defaults: false })
  const graph: GraphProto = model["graph"]
  return graph
}
