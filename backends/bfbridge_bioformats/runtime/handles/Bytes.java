package bfbridge;

import java.util.Arrays;

/** Array methods for Python; java.util.Arrays has a hundred more, which take time to load. */
public final class Bytes {

  private Bytes() {}

  /** Sets all bytes to zero. */
  public static void clear(byte[] array) {
    Arrays.fill(array, (byte) 0);
  }
}
