package bfbridge;

import java.lang.reflect.Field;
import loci.formats.FormatTools;
import loci.formats.IFormatReader;

/** Readers that return only a part of a file, detected from their internal data. */
public final class Misread {

  private Misread() {}

  /** Returns the reason why an open reader is wrong about its file, or null. */
  public static String why(IFormatReader reader) throws ReflectiveOperationException {
    if (!reader.getClass().getSimpleName().equals("MINCReader")) {
      return null;
    }
    // It keeps all pixels. For MINC 2 it reads the length of the time axis from a wrong position, and
    // assumes the axis order T, Z, Y, X, whatever the file says.
    Field field = reader.getClass().getDeclaredField("pixelData");
    field.setAccessible(true);
    byte[][][] planes = (byte[][][]) field.get(reader);
    int row = reader.getSizeX() * FormatTools.getBytesPerPixel(reader.getPixelType());
    if (planes == null || planes.length == 0 || planes[0].length == 0) {
      return "its pixels have more axes than Bio-Formats supports for MINC, or another type";
    }
    if (planes.length != reader.getImageCount()) {
      return "it contains " + planes.length + " planes, but Bio-Formats reads "
          + reader.getImageCount() + "; it ignores the time axis of MINC 2 and the order of the axes";
    }
    if (planes[0].length != reader.getSizeY() || planes[0][0].length != row) {
      return "its axes have another order than Bio-Formats assumes";
    }
    return null;
  }
}
