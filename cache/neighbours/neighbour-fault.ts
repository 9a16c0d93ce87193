/** A neighbour is away, too slow, no neighbour, or does not keep to the protocol. */
export class NeighbourFault extends Error {}
