package jj2000.j2k.codestream.reader;

import bfbridge.Endless;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import jj2000.j2k.io.RandomAccessIO;

/**
 * Bits of the packet headers of a JPEG 2000 code stream: ITU-T T.800, B.10.1.
 *
 * It replaces the class of this name in the Bio-Formats jar, which returns ones without end after
 * its last byte, and after two bytes of ones: decoders of damaged streams then never end. This
 * class throws an error at the end. Fields and methods that other classes of the package use are the same.
 */
final class PktHeaderBitReader {

  private static final int ONES = 0xff;

  RandomAccessIO in;
  ByteArrayInputStream bais;
  boolean usebais;

  private int current;
  private int following;
  private int left;

  PktHeaderBitReader(RandomAccessIO in) {
    this.in = in;
  }

  PktHeaderBitReader(ByteArrayInputStream bais) {
    this.bais = bais;
    usebais = true;
  }

  int readBit() throws IOException {
    if (left == 0) {
      load();
    }
    left--;
    return (current >> left) & 1;
  }

  int readBits(int count) throws IOException {
    int bits = 0;
    for (int i = 0; i < count; i++) {
      bits = (bits << 1) | readBit();
    }
    return bits;
  }

  /** After a byte of ones, the highest bit of the next byte is skipped. */
  private void load() throws IOException {
    boolean stuffed = current == ONES;
    current = stuffed ? following : next();
    left = stuffed ? 7 : 8;
    if (current < 0) {
      throw new Endless("the code stream ends inside a packet header");
    }
    if (current == ONES) {
      following = next();
    }
  }

  private int next() throws IOException {
    return usebais ? bais.read() : in.read();
  }

  /** Continues at the next whole byte. */
  void sync() {
    current = 0;
    left = 0;
  }

  void setInput(RandomAccessIO input) {
    in = input;
    sync();
  }

  void setInput(ByteArrayInputStream input) {
    bais = input;
    sync();
  }
}
