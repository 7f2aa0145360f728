package bfbridge;

import java.io.IOException;
import java.io.InputStream;
import java.lang.invoke.MethodHandles;

/** Faults of the Bio-Formats jar whose cause is a few bytes, patched while its classes are loaded. */
public final class Repairs {

  private static final String NEIGHBOUR = "jj2000.j2k.entropy.decoder.EntropyDecoder";
  private static final String DECODER = "StdEntropyDecoder.class";

  /** iconst_3, iload_3, ishl, iconst_1, ishr: (3 << bp) >> 1, in each pass over a bit plane. */
  private static final byte[] SHIFT = {0x06, 0x1d, 0x78, 0x04, 0x7a};

  private static final byte IUSHR = 0x7c;
  private static final int TIMES = 3;

  private Repairs() {}

  /**
   * Patches the entropy decoder of JPEG 2000.
   *
   * It stores a coefficient's sign in the highest bit, and sets the bits below by (3 << bp) >> 1. In
   * the highest bit plane, bp = 30, that shift keeps the sign and sets the highest bit as well: large
   * coefficients become negative, and bright pixels grey or black. The shift has to be >>>.
   *
   * @return null if it was patched or needs no patch, otherwise the reason why it was not
   */
  public static String jpeg2000() {
    try {
      Class<?> neighbour = Class.forName(NEIGHBOUR);
      byte[] code = read(neighbour);
      int found = code == null ? 0 : replace(code);
      if (found != TIMES) {
        return found == 0 ? null : "its decoder has other code";
      }
      MethodHandles.privateLookupIn(neighbour, MethodHandles.lookup()).defineClass(code);
      return null;
    } catch (ReflectiveOperationException | IOException | LinkageError e) {
      return e.toString();
    }
  }

  private static byte[] read(Class<?> neighbour) throws IOException {
    try (InputStream in = neighbour.getResourceAsStream(DECODER)) {
      return in == null ? null : in.readAllBytes();
    }
  }

  private static int replace(byte[] code) {
    int found = 0;
    for (int i = 0; i + SHIFT.length <= code.length; i++) {
      int same = 0;
      while (same < SHIFT.length && code[i + same] == SHIFT[same]) {
        same++;
      }
      if (same == SHIFT.length) {
        code[i + SHIFT.length - 1] = IUSHR;
        found++;
      }
    }
    return found;
  }
}
