/** Graph names of a program's inputs and outputs: two name spaces of the program are one in ONNX. */

export const inputName = (name: string): string => `in:${name}`
export const outputName = (name: string): string => `out:${name}`
